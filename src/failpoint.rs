//! Places where tests crash the server or lose its connection, to see what is left.
//!
//! They exist only with the cargo feature `failpoints`; otherwise [`hit`] is a constant that the compiler removes. What happens
//! where stands in the environment variable `FAILPOINTS`, such as `after_commit=2*off->1*return(crash)`: twice nothing, then a crash.

/// Says that execution is at a place. A crash does not return; `true` means: behave as if the connection were lost just now.
#[cfg(feature = "failpoints")]
pub fn hit(place: &str) -> bool {
    fail::fail_point!(place, |action| {
        if action.as_deref() == Some("crash") {
            std::process::abort();
        }
        true
    });
    false
}

/// Nothing, as always outside of tests.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn hit(_place: &str) -> bool {
    false
}

/// Reads what shall happen where; it holds for the life of the process.
#[cfg(feature = "failpoints")]
pub fn read_environment() {
    std::mem::forget(fail::FailScenario::setup());
}

/// Nothing, as always outside of tests.
#[cfg(not(feature = "failpoints"))]
pub const fn read_environment() {}
