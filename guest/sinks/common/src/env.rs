//! Environment variables, by `wasi:cli/environment`, which every platform offers.

use alloc::string::String;

use wasip2::cli::environment::get_environment;

/// The value of a variable. An empty one counts as not set.
#[must_use]
pub fn read(name: &str) -> Option<String> {
    let variables = get_environment().into_iter();
    variables
        .filter(|(variable, value)| variable == name && !value.is_empty())
        .map(|(_, value)| value)
        .next_back()
}
