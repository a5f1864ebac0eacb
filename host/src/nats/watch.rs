//! Looks at the stream now and then: whether it is still there, the same, and safe, who leads it, and
//! whether it has all that it had.
//!
//! A task of its own for as long as its sink lives. Never changes the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::follow::LeaderAttempts;
use super::health::{Health, Look};
use super::identity::Identity;
use super::prepare::{check, is_missing, leader};
use super::url::NatsUrl;
use super::version;

/// How often to look at a stream that takes events, and at one that does not.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_IN_TROUBLE: Duration = Duration::from_millis(500);

/// How long a server may hear of no leader until another one is asked: shorter than the replicas take to
/// agree on one, since only the first of many tries need be right.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// How long a server may take itself for the leader that is cut off from the others, or was stopped, and so show
/// less than the stream has: a little more than the 10 s after which it knows by itself.
const DEPOSED_TIME: Duration = Duration::from_secs(15);

/// How long a new leader may take to show all that is committed, which is nothing to worry about.
const BRIEF: Duration = Duration::from_secs(2);

/// What somebody has to do about a stream that may have lost events.
pub(super) const ADVICE: &str = "nothing is put any more until this server is started again; before that, run \
     `alldata-peer verify --all-replicas`, and see what the logs of the NATS servers say";

/// A stream that is put into, as it is known.
pub(super) struct Watched {
    pub(super) url: NatsUrl,
    pub(super) identity: Identity,
    /// The last sequence number that is known of it, which it never gives out again.
    pub(super) last: Arc<AtomicU64>,
    /// How many messages it was seen to have, which never become fewer.
    pub(super) messages: u64,
    pub(super) health: Arc<Health>,
    /// The connection that is used, which leads to the leader where that can be had.
    pub(super) connection: watch::Sender<Connection>,
}

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Fit,
    Unfit(String),
    /// The server that the connection leads to is not one to put into.
    UnfitServer(String),
    /// It has less than it had, unless whoever shows it is no leader any more.
    Less(String),
    /// It is not the stream that it was.
    Suspect(String),
}

impl Watched {
    /// Looks for as long as anybody waits for that.
    pub(super) async fn watch(mut self) {
        let mut last = None;
        let mut silent_since = None;
        let mut less_since = None;
        let mut attempts = LeaderAttempts::default();
        let mut led = None;
        while !self.health.is_suspect() {
            match self.health.needs_looks() || less_since.is_some() {
                false => drop(timeout(PAUSE, self.health.trouble()).await),
                true => sleep(PAUSE_IN_TROUBLE).await,
            }
            let connection = self.connection.borrow().clone();
            let Some((found, info)) = self.look(&connection).await else {
                less_since = None;
                // Another server may be on the side of the leader.
                let since = *silent_since.get_or_insert_with(Instant::now);
                if !connection.is_up() {
                    silent_since = None;
                } else if since.elapsed() >= MAX_SILENCE {
                    silent_since = None;
                    connection.choose_another().await;
                }
                continue;
            };
            silent_since = None;
            let is_led = info.as_ref().and_then(leader).map(str::to_owned);
            if is_led != led {
                // What the one before showed says nothing of this one.
                (less_since, led) = (None, is_led);
            }
            let is_replicated = is_replicated(info.as_ref());
            let found = confirm(found, is_replicated, &mut less_since, Instant::now());
            let Some(found) = found else {
                continue;
            };
            if last.as_ref() != Some(&found) {
                self.log(&found, last.is_some());
            }
            self.health.looked(match &found {
                Finding::Fit => Look::Fit,
                Finding::Unfit(_) | Finding::UnfitServer(_) => Look::Unfit,
                Finding::Less(_) | Finding::Suspect(_) => Look::Suspect,
            });
            if let (Finding::Fit, Some(info)) = (&found, &info) {
                self.last
                    .fetch_max(info.state.last_sequence, Ordering::Relaxed);
                self.messages = self.messages.max(info.state.messages);
                self.follow(&connection, info, &mut attempts).await;
            }
            if let Finding::UnfitServer(_) = &found {
                connection.choose_another().await;
            }
            last = Some(found);
        }
    }

    /// What the stream is. `None` where nobody could say.
    async fn look(&mut self, connection: &Connection) -> Option<(Finding, Option<Info>)> {
        if !connection.is_up() {
            return None;
        }
        if let Some(fault) = version::fault(&connection.server())
            && !self.url.unsafe_version
        {
            return Some((Finding::UnfitServer(fault), None));
        }
        // What is acknowledged while the answer is on its way is not in it.
        let last = self.last.load(Ordering::Relaxed);
        let info = match connection.context().get_stream(&self.url.stream).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if is_missing(&error.kind()) => {
                return Some((Finding::Unfit("it is gone".to_owned()), None));
            }
            Err(_) => return None,
        };
        let found = self.judge(connection, &info, last)?;
        Some((found, Some(info)))
    }

    /// `last` is the last sequence number that was known before `info` was asked for.
    fn judge(&mut self, connection: &Connection, info: &Info, last: u64) -> Option<Finding> {
        // Others than the leader also answer, and what they know is no sign of anything.
        if info.cluster.is_some() && leader(info).is_none() {
            return None;
        }
        if !self.identity.is_same(info) && !self.identity.may_be_emptied(info) {
            let why = "it is another than when this server started, or has lost all that it had";
            return Some(Finding::Suspect(why.to_owned()));
        }
        if let Err(error) = check(connection, info, &self.url) {
            return Some(Finding::Unfit(error.to_string()));
        }
        let state = &info.state;
        let why = if state.last_sequence < last {
            let found = state.last_sequence;
            format!("its last sequence is {found}, but {last} was stored before")
        } else if state.messages < self.messages {
            let (found, had) = (state.messages, self.messages);
            format!("it has {found} messages, but had {had}")
        } else {
            return Some(Finding::Fit);
        };
        let leader = leader(info).map(|name| format!(" (its leader is {name:?})"));
        let leader = leader.unwrap_or_default();
        Some(Finding::Less(format!(
            "it has lost what it had: {why}{leader}"
        )))
    }

    /// Has events sent to the leader, where that can be reached. What is on its way goes on over the
    /// connection that it went out on.
    async fn follow(&self, connection: &Connection, info: &Info, attempts: &mut LeaderAttempts) {
        let Some(leader) = leader(info) else {
            return;
        };
        let is_led_by_it = connection.server().server_name == leader;
        if is_led_by_it || !attempts.is_due(leader, Instant::now()) {
            return;
        }
        let next = self.connect_to_leader(connection, leader).await;
        let is_news = attempts.note(leader, next.is_some(), Instant::now());
        let stream = &self.url;
        match next {
            Some(next) => {
                tracing::info!(%stream, leader, "events go to the new leader");
                self.connection.send_replace(next);
            }
            None if is_news => {
                let server = connection.server().server_name;
                tracing::info!(
                    %stream, leader, server,
                    "the leader can't be connected to by any address of the URL, or that its servers advertise: events \
                     go to it through another server"
                );
            }
            None => {}
        }
    }

    async fn connect_to_leader(&self, connection: &Connection, name: &str) -> Option<Connection> {
        let next = connection.to_server(name, &self.url).await?;
        let is_fit = self.url.unsafe_version || version::fault(&next.server()).is_none();
        (is_fit && next.offer_all(&self.url).await).then_some(next)
    }

    fn log(&self, found: &Finding, is_again: bool) {
        let stream = &self.url;
        match found {
            Finding::Fit if is_again => {
                tracing::info!(%stream, "the stream is fit to put into again");
            }
            Finding::Fit => {}
            Finding::Unfit(why) | Finding::UnfitServer(why) => {
                tracing::error!(%stream, "the stream takes no events: {why}");
            }
            Finding::Less(why) | Finding::Suspect(why) => {
                tracing::error!(%stream, "the stream takes no events any more: {why}: {ADVICE}");
            }
        }
    }
}

/// Takes a stream for one that has lost something only once that can't be shown any more by a leader that
/// is none. Until then nothing is put into it, unless its leader may not have got to the end of what is
/// committed: then `None`.
fn confirm(
    found: Finding,
    is_replicated: bool,
    less_since: &mut Option<Instant>,
    now: Instant,
) -> Option<Finding> {
    if matches!(found, Finding::Less(_)) {
        let since = *less_since.get_or_insert(now);
        if !is_replicated || now >= since + DEPOSED_TIME {
            return Some(found);
        }
        let is_brief = now < since + BRIEF;
        return match found {
            Finding::Less(why) if !is_brief => Some(Finding::Unfit(why)),
            _ => None,
        };
    }
    if let Some(since) = less_since.take() {
        let after = now - since;
        match after < BRIEF {
            true => tracing::info!(?after, "the stream shows all again that it had"),
            false => tracing::warn!(
                ?after,
                "the stream shows all again that it had: a server has led it that was no leader any more, or \
                 whose replica lacks events; `alldata-peer verify --all-replicas` tells which"
            ),
        }
    }
    Some(found)
}

/// Whether more than one server keeps the stream, so that one may take itself for the leader that is none.
fn is_replicated(info: Option<&Info>) -> bool {
    let cluster = info.and_then(|info| info.cluster.as_ref());
    cluster.is_some_and(|cluster| !cluster.replicas.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BRIEF, DEPOSED_TIME, Finding, confirm};

    fn less() -> Finding {
        Finding::Less(String::new())
    }

    #[test]
    fn replicated_stream_shows_less_for_a_while_before_it_has_lost_something() {
        let (mut since, start) = (None, Instant::now());
        let moment = Duration::from_millis(1);
        for now in [start, start + BRIEF - moment] {
            assert_eq!(confirm(less(), true, &mut since, now), None);
        }
        for now in [start + BRIEF, start + DEPOSED_TIME - moment] {
            let unfit = Finding::Unfit(String::new());
            assert_eq!(confirm(less(), true, &mut since, now), Some(unfit));
        }
        let late = start + DEPOSED_TIME;
        assert_eq!(confirm(less(), true, &mut since, late), Some(less()));
    }

    #[test]
    fn stream_that_shows_all_again_has_lost_nothing() {
        let (mut since, start) = (None, Instant::now());
        assert_eq!(confirm(less(), true, &mut since, start), None);
        let fit = confirm(Finding::Fit, true, &mut since, start);
        assert_eq!((fit, since), (Some(Finding::Fit), None));
        let late = start + DEPOSED_TIME;
        assert_eq!(confirm(less(), true, &mut since, late), None);
    }

    #[test]
    fn single_server_that_shows_less_has_lost_something() {
        let mut since = None;
        let found = confirm(less(), false, &mut since, Instant::now());
        assert_eq!(found, Some(less()));
    }
}
