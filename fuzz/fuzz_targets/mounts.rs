//! `tinyd_runtime::fuzz::mounts` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tinyd_runtime::fuzz::mounts(bytes));
