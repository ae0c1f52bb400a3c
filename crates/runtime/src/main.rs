//! `tinyrun`: the OCI runtime, and the supervisor as `tinyrun shim`.

#![no_main]

#[global_allocator]
static HEAP: tinyd_sys::heap::Heap = tinyd_sys::heap::Heap;

tinyd_sys::plain_main!(tinyd_runtime::cli::main);
