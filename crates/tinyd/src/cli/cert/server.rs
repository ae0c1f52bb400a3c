//! stub
use crate::cli::{failure::Result, globals::Globals, verb::Verb};
use clap::Args;
/// Stub
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd cert server")]
pub(in crate::cli) struct Server {}
impl Verb for Server {
    fn run(self, _: &Globals) -> Result<u8> {
        Ok(0)
    }
}
