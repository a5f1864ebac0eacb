//! The sink of a server that starts: opened already, or to be opened once the port is bound.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::Error;
use crate::sink::{BoxSink, PutSink as _};
use crate::sinks::DiscardSink;

/// The sink, or the future that opens it.
pub(crate) enum Sink {
    Opened(BoxSink),
    Unopened(Pin<Box<dyn Future<Output = Result<BoxSink, Error>> + Send>>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Opened(_) => "Opened",
            Self::Unopened(_) => "Unopened",
        })
    }
}

/// Opens the sink, if the component uses it.
pub(crate) async fn open(sink: Option<Sink>, is_needed: bool) -> Result<BoxSink, Error> {
    match sink {
        Some(Sink::Opened(sink)) if is_needed => Ok(sink),
        Some(Sink::Unopened(open)) if is_needed => open.await,
        None if is_needed => Err(Error::NoSink),
        given => {
            if given.is_some() {
                tracing::warn!(
                    "the component has a sink of its own and never uses the sink of the server"
                );
            }
            Ok(DiscardSink.boxed())
        }
    }
}
