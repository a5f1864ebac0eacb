//! Allocator and panic handler of a component that has no standard library. Empty on other targets.
//!
//! A component names this crate to link it: `use alldata_peer_freestanding as _;`.

#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(any(target_arch = "wasm32", test))]
mod arena;
#[cfg(target_arch = "wasm32")]
mod global;

/// A panic is a trap: the host answers 500 and drops this instance. There is nothing to print with.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
