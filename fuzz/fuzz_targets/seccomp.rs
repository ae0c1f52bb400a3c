//! `tinyd_runtime::fuzz::seccomp` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tinyd_runtime::fuzz::seccomp(bytes));
