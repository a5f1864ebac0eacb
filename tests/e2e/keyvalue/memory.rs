//! Buckets in memory that behave like the stores of the platforms, including their peculiarities, and promise
//! no more than the weakest of them.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex};

use super::Platform;
use crate::scheduling;

/// An error of `wasi:keyvalue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

/// Why a value was not swapped, or is reported not to be.
#[derive(Debug)]
pub(super) enum SwapError {
    Store(StoreError),
    CasFailed,
}

impl From<StoreError> for SwapError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A value, and how often its name was written to, which is what Redis watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Value {
    bytes: Vec<u8>,
    writes: u64,
}

/// The one bucket of a platform, and the calls that were made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    platform_is_redis: bool,
    bucket: String,
    values: BTreeMap<String, Value>,
    /// Names whose value was replaced by a different one.
    replaced: Vec<String>,
    /// The calls of each put, and their results.
    calls: Vec<Vec<String>>,
}

impl Memory {
    pub(super) fn new(platform: Platform, bucket: &str) -> Self {
        Self {
            platform_is_redis: platform == Platform::SpinRedis,
            bucket: bucket.to_owned(),
            values: BTreeMap::new(),
            replaced: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// The names in the bucket.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).collect()
    }

    /// The value under a name, which has to be text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        Some(str::from_utf8(&value.bytes).expect("is text"))
    }

    /// Stores a value as another client would.
    pub(crate) fn leave(&mut self, name: &str, bytes: &[u8]) {
        self.set(name, bytes.to_vec()).expect("takes everything");
    }

    /// Whether any event was ever replaced by different bytes.
    pub(crate) fn has_replaced_an_event(&self) -> bool {
        self.replaced.iter().any(|name| name.starts_with("event/"))
    }

    /// The calls of each put, in the order in which the puts began, and their results.
    pub(crate) fn calls(&self) -> &[Vec<String>] {
        &self.calls
    }

    pub(super) fn open(&mut self, bucket: &str) -> Result<(), StoreError> {
        match self.bucket == bucket {
            true => Ok(()),
            false => Err(StoreError::NoSuchStore),
        }
    }

    pub(super) fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(name).map(|value| value.bytes.clone()))
    }

    pub(super) fn set(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let value = self.values.entry(name.to_owned()).or_default();
        if value.writes > 0 && value.bytes != bytes {
            self.replaced.push(name.to_owned());
        }
        value.bytes = bytes;
        value.writes += 1;
        Ok(())
    }

    pub(super) fn increment(&mut self, name: &str, delta: i64) -> Result<i64, StoreError> {
        let old = self.get(name)?;
        let new = delta
            + match old {
                None => 0,
                Some(bytes) if self.platform_is_redis => digits(&bytes)?,
                // At any other length Spin panics, and the whole server with it.
                Some(bytes) => i64::from_le_bytes(bytes.try_into().expect("has eight bytes")),
            };
        let bytes = match self.platform_is_redis {
            true => new.to_string().into_bytes(),
            false => new.to_le_bytes().to_vec(),
        };
        self.set(name, bytes)?;
        Ok(new)
    }

    pub(super) fn watch(&mut self, watch: &mut Watch) -> Result<Option<Vec<u8>>, StoreError> {
        watch.seen = self.values.get(&watch.name).cloned();
        self.get(&watch.name)
    }

    pub(super) fn swap(&mut self, watch: &Watch, bytes: Vec<u8>) -> Result<(), SwapError> {
        let stored = self.values.get(&watch.name);
        let is_as_seen = match &watch.seen {
            _ if self.platform_is_redis => stored == watch.seen.as_ref(),
            // Spin inserts in that case, and overwrites what was inserted meanwhile.
            None => true,
            Some(seen) => stored.is_some_and(|stored| stored.bytes == seen.bytes),
        };
        if is_as_seen {
            self.set(&watch.name, bytes)?;
        }
        // Spin ends its transaction in Redis with a command that Redis rejects.
        match is_as_seen && !self.platform_is_redis {
            true => Ok(()),
            false => Err(SwapError::CasFailed),
        }
    }
}

fn digits(bytes: &[u8]) -> Result<i64, StoreError> {
    let number = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| StoreError::Other("value is not an integer or out of range".to_owned()))
}

/// A name to be swapped, and its value when it was read.
#[expect(unreachable_pub, reason = "what is generated exports it")]
#[derive(Clone, Debug)]
pub struct Watch {
    name: String,
    seen: Option<Value>,
}

impl Watch {
    pub(super) fn new(name: String) -> Self {
        Self { name, seen: None }
    }
}

/// A fault in a put.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// At which call, counted from 0.
    pub(crate) call: usize,
    /// Whether the call takes effect all the same.
    pub(crate) is_after: bool,
    pub(crate) how: How,
}

#[derive(Clone, Debug)]
pub(crate) enum How {
    /// The instance is gone.
    Crash,
    /// The call returns an error.
    Error(StoreError),
}

/// The crash that a test asked for.
#[derive(Debug)]
pub(super) struct Crash;

impl Display for Crash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a crash that the test wanted")
    }
}

impl std::error::Error for Crash {}

/// The put that calls.
pub(super) struct Caller {
    memory: Arc<Mutex<Memory>>,
    number: usize,
    calls: usize,
    fault: Option<Fault>,
}

impl Caller {
    pub(super) fn new(memory: Arc<Mutex<Memory>>, fault: Option<Fault>) -> Self {
        let number = {
            let calls = &mut memory.lock().expect("no call panicked").calls;
            calls.push(Vec::new());
            calls.len() - 1
        };
        Self {
            memory,
            number,
            calls: 0,
            fault,
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Makes a call when it is this put's turn. The outer result is for crashes.
    pub(super) async fn call<T: Debug, E: Debug + From<StoreError>>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Memory) -> Result<T, E>,
    ) -> wasmtime::Result<Result<T, E>> {
        scheduling::next().await;
        self.call_at_once(what, act)
    }

    /// Makes a call that neither reads nor writes, and so needs no turn of its own.
    pub(super) fn call_at_once<T: Debug, E: Debug + From<StoreError>>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Memory) -> Result<T, E>,
    ) -> wasmtime::Result<Result<T, E>> {
        let fault = self.fault.take_if(|fault| fault.call == self.calls);
        self.calls += 1;
        let mut memory = self.memory.lock().expect("no call panicked");
        let answer = match &fault {
            Some(fault) if !fault.is_after => None,
            _ => Some(act(&mut memory)),
        };
        let answer = match (fault.map(|fault| fault.how), answer) {
            (Some(How::Error(error)), _) => Some(Err(error.into())),
            (Some(How::Crash), _) => None,
            (None, answer) => answer,
        };
        memory.calls[self.number].push(format!("{what}: {answer:?}"));
        answer.ok_or_else(|| wasmtime::Error::new(Crash))
    }
}
