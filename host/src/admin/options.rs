//! What a listener for operators shows.

/// What a listener for operators shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdminOptions {
    /// Whether the page shows the beginning of the last events, and not only their keys and sizes.
    pub shows_events: bool,
}
