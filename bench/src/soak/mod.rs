//! The soak test: a server under load for a long time, with kills, to check that its resources stay constant
//! and that all acknowledged events are stored.
//!
//! This module runs the load, the samples and the kills. `audit` checks for lost events, `flatness` for growth.

mod audit;
mod chart;
mod flatness;
mod ledger;
mod load;
mod report;
mod samples;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use fastrand::Rng;
use tempfile::TempDir;

use crate::port;
use crate::results::{self, EVENT_BYTES};
use crate::running::Running;
use crate::server::{STORE, Server};
use crate::soak::audit::Audit;
pub(crate) use crate::soak::chart::svg;
use crate::soak::load::Load;
pub(crate) use crate::soak::report::markdown;
pub(crate) use crate::soak::samples::csv;
use crate::soak::samples::{Kill, Sample};
use crate::tools::Tools;
use crate::wrk;

/// How often the highest rate is measured, and for how many seconds each time. The maximum counts, so that
/// other work of the machine does not lower it.
const HIGHEST_ROUNDS: usize = 5;
const HIGHEST_SECONDS: u64 = 2;

/// The rate of the load, relative to the highest rate.
const PART: f64 = 0.5;

/// The interval of the samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The largest relative deviation of the times between kills from their mean.
const KILL_JITTER: f64 = 0.5;

/// Seeds are below this, so that they can be typed.
const SEEDS: u64 = 1_000_000_000;

/// The duration of the load, and the frequency of kills.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long it is loaded
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The average number of seconds until it is killed; 0 never kills it
    #[arg(long, default_value_t = 60)]
    kill_seconds: u64,
    /// The seed of the times of the kills; random unless given
    #[arg(long)]
    seed: Option<u64>,
}

/// The results.
pub(crate) struct Soaked {
    seed: u64,
    /// The highest rate, in puts per second.
    highest: f64,
    /// The rate of the load.
    rate: f64,
    /// The actual duration of the load.
    seconds: f64,
    samples: Vec<Sample>,
    kills: Vec<Kill>,
    audit: Audit,
    /// The output of `alldata-peer verify`.
    verified: String,
    /// Other faults.
    troubles: Vec<String>,
}

impl Soak {
    /// Loads a server for the given time, and then checks its store.
    ///
    /// # Errors
    ///
    /// If there are no results. Faults under load are part of the results.
    pub(crate) fn run(&self, tools: &Tools) -> Result<Soaked> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..SEEDS));
        let highest = highest_rate(tools)?;
        let rate = highest * PART;
        eprintln!(
            "seed {seed}: {rate:.0} of {highest:.0} puts/s for {} s",
            self.seconds
        );
        let mut soaking = Soaking::start(tools, rate)?;
        let mut troubles = Vec::new();
        let kept_up = soaking.keep_up(self, Rng::with_seed(seed));
        troubles.extend(kept_up.err().map(|error| format!("{error:#}")));
        soaking.finish(seed, highest, rate, troubles)
    }

    /// How long a server lives.
    fn life(&self, random: &mut Rng) -> Option<Duration> {
        let part = 1.0 + KILL_JITTER * (2.0 * random.f64() - 1.0);
        (self.kill_seconds > 0).then(|| Duration::from_secs(self.kill_seconds).mul_f64(part))
    }
}

impl Soaked {
    /// In chronological order.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// # Errors
    ///
    /// If the server lost or changed anything, or did not do its work.
    pub(crate) fn judge(&self) -> Result<()> {
        let mut troubles = self.troubles.clone();
        for (faults, what) in [
            (&self.audit.lost, "acknowledged and not in the store"),
            (&self.audit.changed, "in the store with another event"),
            (&self.audit.foreign, "in the store and never put"),
        ] {
            if faults.count > 0 {
                let keys = faults.keys.join(", ");
                troubles.push(format!("{} are {what}, such as {keys}", faults.count));
            }
        }
        ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
        Ok(())
    }
}

/// The highest rate of a server, in puts per second.
fn highest_rate(tools: &Tools) -> Result<f64> {
    let load = results::Load::of_events(EVENT_BYTES[0]);
    let running = Server::PeerSqlite.start(tools)?;
    running.put(tools, "key")?;
    let mut highest: f64 = 0.0;
    for _ in 0..HIGHEST_ROUNDS {
        let report = wrk::run(tools, &running, load, HIGHEST_SECONDS)?;
        highest = highest.max(report.puts_per_second);
    }
    Ok(highest)
}

/// A server under load.
struct Soaking<'a> {
    tools: &'a Tools,
    store: Arc<TempDir>,
    address: SocketAddr,
    /// `None` only after it did not start again.
    running: Option<Running>,
    load: Load,
    start: Instant,
    samples: Vec<Sample>,
    kills: Vec<Kill>,
    /// The key of the first put of each life, which is not part of the load.
    first_keys: BTreeSet<String>,
}

impl<'a> Soaking<'a> {
    fn start(tools: &'a Tools, rate: f64) -> Result<Self> {
        let store = Arc::new(tempfile::tempdir_in(tools.scratch.path())?);
        let running = Server::start_peer(tools, &store, port::free()?)?;
        let first_key = first_key(1);
        running.put(tools, &first_key)?;
        let address = running.address();
        Ok(Self {
            tools,
            store,
            address,
            running: Some(running),
            load: Load::start(address, rate)?,
            start: Instant::now(),
            samples: Vec::new(),
            kills: Vec::new(),
            first_keys: BTreeSet::from([first_key]),
        })
    }

    /// Takes samples and kills servers until the time is over.
    fn keep_up(&mut self, soak: &Soak, mut random: Rng) -> Result<()> {
        let end = self.start + Duration::from_secs(soak.seconds);
        let mut sample_at = self.start + SAMPLE_INTERVAL;
        let mut kill_at = soak.life(&mut random).map(|life| self.start + life);
        loop {
            let next = kill_at.map_or(sample_at, |kill_at| kill_at.min(sample_at));
            thread::sleep(next.min(end).saturating_duration_since(Instant::now()));
            if next > end {
                return Ok(());
            }
            if kill_at == Some(next) {
                self.kill_and_restart()?;
                kill_at = soak.life(&mut random).map(|life| Instant::now() + life);
            } else {
                self.sample()?;
                sample_at = (sample_at + SAMPLE_INTERVAL).max(Instant::now());
            }
        }
    }

    fn sample(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("there is no server")?;
        running.check()?;
        self.samples.push(Sample::take(
            running,
            self.store.path(),
            self.kills.len() + 1,
            self.start.elapsed().as_secs_f64(),
            self.load.acknowledged(),
        )?);
        Ok(())
    }

    fn kill_and_restart(&mut self) -> Result<()> {
        let killed = Instant::now();
        let mut running = self.running.take().context("there is no server")?;
        running.check()?;
        // By SIGKILL.
        drop(running);
        let life = self.kills.len() + 2;
        let running = Server::start_peer(self.tools, &self.store, self.address.port())?;
        let first_key = first_key(life);
        let answered = running.put(self.tools, &first_key);
        answered.context("it does not answer again after a kill")?;
        self.first_keys.insert(first_key);
        self.running = Some(running);
        let kill = Kill {
            seconds: (killed - self.start).as_secs_f64(),
            outage_seconds: killed.elapsed().as_secs_f64(),
        };
        eprintln!(
            "{:.1} s: killed, and {:.0} ms later life {life} has answered",
            kill.seconds,
            kill.outage_seconds * 1e3
        );
        self.kills.push(kill);
        Ok(())
    }

    fn finish(
        self,
        seed: u64,
        highest: f64,
        rate: f64,
        mut troubles: Vec<String>,
    ) -> Result<Soaked> {
        let ledgers = self.load.stop()?;
        let seconds = self.start.elapsed().as_secs_f64();
        if let Some(running) = self.running {
            match running.terminate() {
                Ok(status) if status.success() => {}
                Ok(status) => troubles.push(format!("told to end, it ended with {status}")),
                Err(error) => troubles.push(format!("{error:#}")),
            }
        }
        let path = self.store.path().join(STORE);
        eprintln!("verifying the store, and looking for each put in it");
        let verified = verify(&self.tools.peer, &path).unwrap_or_else(|error| {
            let trouble = format!("{error:#}");
            troubles.push(trouble.clone());
            trouble
        });
        Ok(Soaked {
            seed,
            highest,
            rate,
            seconds,
            samples: self.samples,
            kills: self.kills,
            audit: audit::audit(&path, &ledgers, &self.first_keys)?,
            verified,
            troubles,
        })
    }
}

fn first_key(life: usize) -> String {
    format!("the first of life {life}")
}

/// Runs `alldata-peer verify` on a store, and returns its output.
fn verify(peer: &PathBuf, path: &Path) -> Result<String> {
    let store = format!("sqlite:{}", path.display());
    let output = Command::new(peer)
        .args(["verify", "--store", &store])
        .output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("verify is not clean: {complaint}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
