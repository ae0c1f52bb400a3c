//! stub
use crate::cli::{failure::Result, globals::Globals, verb::Verb};
use clap::Args;
/// Stub
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd daemon")]
pub(in crate::cli) struct Daemon {}
impl Verb for Daemon {
    fn run(self, _: &Globals) -> Result<u8> {
        Ok(0)
    }
}
