//! `tinyd attach`: joins the streams of a container that runs.

use clap::Args;

use super::{
    failure::Result,
    globals::Globals,
    session::{self, Attaching},
    verb::{Fails, Verb},
};
use crate::pb::attach_open::Target;

/// Join the streams of a container that runs
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd attach c1\n\nCtrl-P Ctrl-Q leaves; the container runs on. Without a terminal, signals go to the program.\nThe exit code is the program's own, or 0 after leaving."
)]
pub(super) struct Attach {
    /// Show its output only
    #[arg(long)]
    no_stdin: bool,
    /// Its name, id, or a unique beginning of its id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Attach {
    const FAILS: Fails = Fails::Apart;

    fn run(self, globals: &Globals) -> Result<u8> {
        let stdin = !self.no_stdin;
        globals.online(async move |remote| {
            session::run(&remote, Attaching { target: Target::Container(self.container), stdin }, stdin).await
        })
    }
}
