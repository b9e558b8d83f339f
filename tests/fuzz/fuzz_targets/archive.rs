//! Archives of configurations as they are uploaded: the container, and the description inside.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unfulfilled_lint_expectations, reason = "the server uses the rest")]
#[path = "../../../crates/server/src/archive.rs"]
mod archive;

fuzz_target!(|bytes: &[u8]| archive::fuzz(bytes));
