//! The signals of the process: which end a server, which are only logged, and which must not end
//! any command.

use std::time::Duration;

/// How long after the first signal another one does not cut the end short. GNU `timeout` sends
/// SIGTERM to its command and then to its group, two within a millisecond; who wants the server to
/// end at once takes longer to ask again.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);

#[cfg(unix)]
pub(crate) use unix::{Signals, end_by_signal, hold_back, survive_file_size_limit, unblock};

#[cfg(not(unix))]
pub(crate) use other::{Signals, end_by_signal, hold_back, survive_file_size_limit, unblock};

impl Signals {
    /// Waits for a signal that cuts the end short: another one, after a pause.
    pub(crate) async fn next_after_pause(&mut self) -> &'static str {
        let first = tokio::time::Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() >= REPEAT_PAUSE {
                return signal;
            }
            tracing::info!(
                signal,
                "closing already; a signal later than {} s after the first one ends the server at once",
                REPEAT_PAUSE.as_secs()
            );
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::{fs, io, thread};

    use rustix::process::Signal as Number;
    use tokio::runtime::{Builder, Runtime};
    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signals that end a server.
    const ENDING: [(Number, &str); 2] = [(Number::INT, "SIGINT"), (Number::TERM, "SIGTERM")];

    /// The signals that would end a server, and are only logged: a terminal that was closed, or
    /// another program's habit, is no reason to drop what is in flight.
    const IGNORED: [(Number, &str); 3] = [
        (Number::HUP, "SIGHUP"),
        (Number::USR1, "SIGUSR1"),
        (Number::USR2, "SIGUSR2"),
    ];

    /// The signals that end a command unless it does something about them.
    const FATAL: [(Number, &str); 8] = [
        (Number::HUP, "SIGHUP"),
        (Number::INT, "SIGINT"),
        (Number::QUIT, "SIGQUIT"),
        (Number::TERM, "SIGTERM"),
        (Number::USR1, "SIGUSR1"),
        (Number::USR2, "SIGUSR2"),
        (Number::ALARM, "SIGALRM"),
        (Number::XCPU, "SIGXCPU"),
    ];

    /// What shells and service managers take for the end by a signal, plus its number.
    const EXIT_BY_SIGNAL: i32 = 128;

    /// The signals of a server, from when this was made.
    pub(crate) struct Signals {
        ending: Streams,
        ignored: Streams,
    }

    impl Signals {
        pub(crate) fn listen() -> io::Result<Self> {
            Ok(Self {
                ending: Streams::listen(&ENDING)?,
                ignored: Streams::listen(&IGNORED)?,
            })
        }

        /// Waits for the next signal that ends the server.
        pub(crate) async fn next(&mut self) -> &'static str {
            loop {
                tokio::select! {
                    (_, signal) = self.ending.next() => return signal,
                    (_, signal) = self.ignored.next() => {
                        tracing::info!(signal, "ignored: SIGTERM or SIGINT ends the server");
                    }
                }
            }
        }
    }

    /// Signals that are listened for, each by its own stream.
    struct Streams(Vec<(Number, &'static str, Signal)>);

    impl Streams {
        fn listen(signals: &[(Number, &'static str)]) -> io::Result<Self> {
            let streams = signals.iter().map(|(number, name)| {
                let stream = signal(SignalKind::from_raw(number.as_raw()))?;
                Ok((*number, *name, stream))
            });
            streams.collect::<io::Result<_>>().map(Self)
        }

        async fn next(&mut self) -> (Number, &'static str) {
            poll_fn(|context| {
                for (number, name, stream) in &mut self.0 {
                    if stream.poll_recv(context).is_ready() {
                        return Poll::Ready((*number, *name));
                    }
                }
                Poll::Pending
            })
            .await
        }
    }

    /// Lets the signals that end a server through, which the program that started it may have blocked. To be
    /// called before anything starts a thread.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub(crate) fn unblock() {
        use std::mem::MaybeUninit;
        use std::ptr;

        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` makes the set, which the others then have. Only the mask of this thread
        // changes. None of them fails with the signals of the list.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for (number, _) in ENDING {
                libc::sigaddset(set.as_mut_ptr(), number.as_raw());
            }
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        }
    }

    /// Elsewhere they stay as they were.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn unblock() {}

    /// Makes a write beyond the limit of the size of files (`ulimit -f`, `LimitFSIZE=`) an error,
    /// which the system otherwise answers with the end of the process. Lasts until the process ends.
    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        // A signal that somebody listens for no longer does what it does by itself, also once the
        // runtime is gone.
        let runtime = listening_runtime()?;
        let _guard = runtime.enter();
        signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
    }

    /// From now on signals that would end the process do not: for the last steps of a command, which
    /// take no time and may not be left half done.
    pub(crate) fn hold_back() -> io::Result<()> {
        let runtime = listening_runtime()?;
        let _guard = runtime.enter();
        Streams::listen(&FATAL).map(drop)
    }

    /// From now on a signal that would end the process does so only after `clean_up`.
    pub(crate) fn end_by_signal(clean_up: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let runtime = listening_runtime()?;
        let guard = runtime.enter();
        // What `nohup` or a shell has the process ignore stays ignored.
        let ignored = ignored_signals();
        let is_fatal = |(number, _): &(Number, _)| ignored >> (number.as_raw() - 1) & 1 == 0;
        let fatal: Vec<_> = FATAL.into_iter().filter(is_fatal).collect();
        let mut fatal = Streams::listen(&fatal)?;
        drop(guard);
        let wait = move || {
            runtime.block_on(async {
                let (number, _) = fatal.next().await;
                clean_up();
                std::process::exit(EXIT_BY_SIGNAL + number.as_raw());
            })
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)?;
        Ok(())
    }

    /// The signals that the process ignores, one a bit; none where the system does not tell.
    fn ignored_signals() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut lines = status.lines();
        let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
        mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0))
    }

    fn listening_runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_io().build()
    }
}

/// Systems without signals, but with Ctrl-C.
#[cfg(not(unix))]
mod other {
    use std::io;

    pub(crate) struct Signals;

    impl Signals {
        pub(crate) fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        /// Waits for the next one.
        pub(crate) async fn next(&mut self) -> &'static str {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }

    /// Here nothing is blocked.
    pub(crate) fn unblock() {}

    /// Here no limit ends a process.
    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        Ok(())
    }

    /// Here nothing can be held back.
    pub(crate) fn hold_back() -> io::Result<()> {
        Ok(())
    }

    /// Here what is left behind has a name that says what it is.
    pub(crate) fn end_by_signal(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
        Ok(())
    }
}
