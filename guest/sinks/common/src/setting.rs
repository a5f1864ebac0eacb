//! Settings from the environment (`wasi:cli/environment`), which every platform offers.
//!
//! Never decides what a setting means.

use alloc::string::String;

use wasip2::cli::environment::get_environment;

/// The value of a variable. One that is set to nothing is as good as not set.
#[must_use]
pub fn read(name: &str) -> Option<String> {
    let variables = get_environment().into_iter();
    variables
        .filter(|(variable, value)| variable == name && !value.is_empty())
        .map(|(_, value)| value)
        .next_back()
}
