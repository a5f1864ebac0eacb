//! Opens a store of either kind for reading. It is never created.

use std::path::PathBuf;

#[cfg(feature = "nats")]
use alldata_peer_server_http::sinks::nats::{NatsReader, NatsUrl, Replicas};
use alldata_peer_server_http::store::{Event, StoreReader, Verification, sqlite_path};
#[cfg(feature = "nats")]
use anyhow::Context as _;
use anyhow::{Error, Result, bail};
#[cfg(feature = "nats")]
use tokio::runtime::Runtime;

/// The URL is not that of a store.
#[derive(Debug, thiserror::Error)]
#[error("a store is sqlite:PATH or nats://HOST:PORT,…/STREAM")]
pub(crate) struct InvalidStoreUrl;

/// The store of a command.
pub(crate) enum Store {
    Sqlite(PathBuf),
    #[cfg(feature = "nats")]
    Nats(Box<NatsUrl>),
}

impl Store {
    /// The store of a URL.
    ///
    /// # Errors
    ///
    /// When it is not the URL of a store. The error does not contain the URL, which may contain a password.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        #[cfg(feature = "nats")]
        if NatsUrl::is_one(url) {
            return Ok(Self::Nats(Box::new(url.parse()?)));
        }
        match sqlite_path(url) {
            Some(path) => Ok(Self::Sqlite(path?.into())),
            None => Err(InvalidStoreUrl.into()),
        }
    }
}

/// A store opened for reading.
pub(crate) enum Reader {
    Sqlite(StoreReader),
    #[cfg(feature = "nats")]
    Nats(Box<NatsReader>, Runtime),
}

impl Reader {
    pub(crate) fn open(url: &str) -> Result<Self> {
        match Store::parse(url)? {
            Store::Sqlite(path) => {
                let store = StoreReader::open(&path)?;
                let links = store.links();
                if links > 1 {
                    let path = path.display();
                    tracing::warn!("{path} has {links} hard links: no server opens such a store");
                }
                Ok(Self::Sqlite(store))
            }
            #[cfg(feature = "nats")]
            Store::Nats(url) => {
                let runtime = Runtime::new().context("cannot start the runtime")?;
                let reader = runtime.block_on(NatsReader::connect(&url))?;
                Ok(Self::Nats(Box::new(reader), runtime))
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<String>> {
        match self {
            Self::Sqlite(store) => Ok(store.get(key)?),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => Ok(runtime.block_on(stream.get(key))?),
        }
    }

    /// Returns for each key whether it has an event.
    pub(crate) fn contains(&self, keys: &[&str]) -> Result<Vec<bool>> {
        match self {
            Self::Sqlite(store) => keys.iter().map(|key| Ok(store.contains(key)?)).collect(),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => {
                let held = keys.iter().map(|key| stream.contains(key));
                Ok(runtime.block_on(futures_util::future::try_join_all(held))?)
            }
        }
    }

    pub(crate) fn count(&self) -> Result<u64> {
        match self {
            Self::Sqlite(store) => Ok(store.count()?),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => Ok(runtime.block_on(stream.count())?),
        }
    }

    pub(crate) fn visit(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        visit: impl FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.visit::<Error>(from, to, visit),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => runtime.block_on(stream.visit::<Error>(from, to, visit)),
        }
    }

    pub(crate) fn verify(&self, progress: impl FnMut(u64)) -> Result<Verification> {
        match self {
            Self::Sqlite(store) => Ok(store.verify(progress)?),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => Ok(runtime.block_on(stream.verify(progress))?),
        }
    }

    /// The differences between the replicas of a stream, one per line: in their numbers of messages, or
    /// with `all` in all messages. With `all`, a replica that cannot be read is a difference.
    pub(crate) fn replica_faults(
        &self,
        all: bool,
        #[cfg_attr(
            not(feature = "nats"),
            expect(unused_variables, reason = "only a stream has replicas")
        )]
        progress: impl FnMut(u64),
    ) -> Result<Vec<String>> {
        match self {
            Self::Sqlite(_) if all => bail!("only a stream of NATS has replicas: --all-replicas"),
            Self::Sqlite(_) => Ok(Vec::new()),
            #[cfg(feature = "nats")]
            Self::Nats(stream, runtime) => {
                let Replicas { mut faults, unread } =
                    runtime.block_on(stream.replicas(all, progress))?;
                for line in unread {
                    if all {
                        faults.push(line);
                    } else {
                        tracing::warn!("{line}");
                    }
                }
                Ok(faults)
            }
        }
    }
}
