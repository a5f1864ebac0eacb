//! The signals of the process: which of them end a server, which are logged and ignored, and which must not
//! end any command.

use std::time::Duration;

/// For this time after the first signal, further ones are ignored. GNU `timeout` sends SIGTERM to its
/// command and then to its group, two within a millisecond; a user who wants the server to end at once
/// waits longer before asking again.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);

#[cfg(unix)]
pub(crate) use unix::{
    Signals, clean_up_on_fatal_signal, ignore_fatal_signals, ignore_file_size_signal,
    unblock_termination,
};

#[cfg(not(unix))]
pub(crate) use other::{
    Signals, clean_up_on_fatal_signal, ignore_fatal_signals, ignore_file_size_signal,
    unblock_termination,
};

impl Signals {
    /// Waits for a further signal after the pause, which ends the shutdown at once.
    pub(crate) async fn next_after_pause(&mut self) -> &'static str {
        let first = tokio::time::Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() >= REPEAT_PAUSE {
                return signal;
            }
            tracing::info!(
                signal,
                "already closing; a signal more than {} s after the first one ends the server at once",
                REPEAT_PAUSE.as_secs()
            );
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::future::{poll_fn, ready};
    use std::task::Poll;
    use std::{fs, io, thread};

    use alldata_peer_server_http::Reloaded;
    use rustix::process::Signal as Number;
    use tokio::runtime::{Builder, Runtime};
    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signals that end a server.
    const ENDING: [(Number, &str); 2] = [(Number::INT, "SIGINT"), (Number::TERM, "SIGTERM")];

    /// The signals that would end a server by default, and are only logged. A closed terminal, or a signal
    /// that another program sends by habit, is no reason to drop requests in service.
    const IGNORED: [(Number, &str); 3] = [
        (Number::HUP, "SIGHUP"),
        (Number::USR1, "SIGUSR1"),
        (Number::USR2, "SIGUSR2"),
    ];

    /// The signals that end a command by default.
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

    /// The exit code of a program that a signal ended, by the convention of shells, minus the number of the
    /// signal.
    const EXIT_SIGNAL_BASE: i32 = 128;

    /// Receives the signals of a server from its creation on.
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
            self.next_or_reload(|| ready(Reloaded::Nothing)).await
        }

        /// The same. On SIGHUP `reload` is called. Those that come meanwhile are served by one more call.
        pub(crate) async fn next_or_reload<F: Future<Output = Reloaded>>(
            &mut self,
            reload: impl Fn() -> F,
        ) -> &'static str {
            loop {
                let (number, signal) = tokio::select! {
                    (_, signal) = self.ending.next() => return signal,
                    ignored = self.ignored.next() => ignored,
                };
                let mut reloaded = Reloaded::Nothing;
                if number == Number::HUP {
                    reloaded = tokio::select! {
                        (_, signal) = self.ending.next() => return signal,
                        reloaded = reload() => reloaded,
                    };
                }
                match reloaded {
                    Reloaded::All => {
                        tracing::info!(signal, "certificates, tokens and files were reloaded");
                    }
                    Reloaded::Failed => {
                        tracing::error!(signal, "not all was reloaded: see the errors before");
                    }
                    Reloaded::Nothing => {
                        tracing::info!(signal, "ignored: SIGTERM or SIGINT ends the server");
                    }
                }
            }
        }
    }

    /// Streams of signals.
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

    /// Unblocks the signals that end a server, which its parent process may have blocked. Must be called
    /// before any thread is started.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub(crate) fn unblock_termination() {
        use std::mem::MaybeUninit;
        use std::ptr;

        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initializes the set before it is used. Only the mask of this thread
        // changes. None of the calls fails with the signals of the list.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for (number, _) in ENDING {
                libc::sigaddset(set.as_mut_ptr(), number.as_raw());
            }
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        }
    }

    /// On other systems nothing is unblocked.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn unblock_termination() {}

    /// Makes a write beyond the file size limit (`ulimit -f`, `LimitFSIZE=`) an error. By default, SIGXFSZ
    /// ends the process. In effect until the process ends.
    pub(crate) fn ignore_file_size_signal() -> io::Result<()> {
        // A handler of Tokio remains installed after its runtime is dropped.
        let runtime = listening_runtime()?;
        let _guard = runtime.enter();
        signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
    }

    /// Makes fatal signals have no effect, for the last steps of a command, which take little time and must
    /// not be interrupted.
    pub(crate) fn ignore_fatal_signals() -> io::Result<()> {
        let runtime = listening_runtime()?;
        let _guard = runtime.enter();
        Streams::listen(&FATAL).map(drop)
    }

    /// Makes a fatal signal end the process only after `clean_up`.
    pub(crate) fn clean_up_on_fatal_signal(
        clean_up: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let runtime = listening_runtime()?;
        let guard = runtime.enter();
        // Signals that the process ignores, as with `nohup`, remain ignored.
        let ignored = ignored_signals();
        let is_fatal = |(number, _): &(Number, _)| ignored >> (number.as_raw() - 1) & 1 == 0;
        let fatal: Vec<_> = FATAL.into_iter().filter(is_fatal).collect();
        let mut fatal = Streams::listen(&fatal)?;
        drop(guard);
        let wait = move || {
            runtime.block_on(async {
                let (number, _) = fatal.next().await;
                clean_up();
                std::process::exit(EXIT_SIGNAL_BASE + number.as_raw());
            })
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)?;
        Ok(())
    }

    /// The signals that the process ignores, one per bit; none if the system does not provide this.
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

        /// Waits for the next one. No signal asks to read files again.
        pub(crate) async fn next_or_reload<F>(&mut self, _reload: impl Fn() -> F) -> &'static str {
            self.next().await
        }

        /// Waits for the next one.
        pub(crate) async fn next(&mut self) -> &'static str {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }

    /// Signals are not blocked on these systems.
    pub(crate) fn unblock_termination() {}

    /// There is no such signal on these systems.
    pub(crate) fn ignore_file_size_signal() -> io::Result<()> {
        Ok(())
    }

    /// Ctrl-C cannot be ignored temporarily on these systems.
    pub(crate) fn ignore_fatal_signals() -> io::Result<()> {
        Ok(())
    }

    /// On these systems a partial file remains, with a name that identifies it.
    pub(crate) fn clean_up_on_fatal_signal(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
        Ok(())
    }
}
