//! The `annals` program: everything is in the library, but for the choice of an allocator.

use std::{ffi::c_long, process::ExitCode};

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`: how long freed pages are kept, in ms.
const PURGE_DELAY: mi_option_t = 15;
/// The allocator's own second is what large reads free in that time: hundreds of MB under load, for no measurable gain.
const PURGE_DELAY_MS: c_long = 10;

fn main() -> ExitCode {
    keep_less_memory();
    annals::cli::main()
}

/// `MIMALLOC_PURGE_DELAY` in the environment goes before.
#[expect(unsafe_code, reason = "the allocator's options have no safe interface")]
fn keep_less_memory() {
    // SAFETY: the function stores a number in a table of options, whose bounds it checks itself, and which the allocator
    // reads when it frees pages. No other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "as above")]
    fn it_is_that_option_which_is_set() {
        // SAFETY: as above; each test has a process of its own, in which nothing was set.
        let of_the_allocator = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(of_the_allocator, 1_000, "another number is another option");
        keep_less_memory();
        // SAFETY: as above.
        let ours = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(ours, PURGE_DELAY_MS);
    }
}
