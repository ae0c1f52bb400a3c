//! Undo written beside do: each acquired thing pushes its release; the last line says `keep()`.

use std::{future::Future, pin::Pin};

use tinyd_core::Result;

type Step = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Releases of what has been acquired so far.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(&'static str, Step)>,
}

impl Undo {
    /// Adds a release; `what` is told when it goes wrong.
    pub(crate) fn push(
        &mut self,
        what: &'static str,
        step: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.steps.push((what, Box::pin(step)));
    }

    /// Everything has worked: nothing is released.
    pub(crate) fn keep(mut self) {
        self.steps.clear();
    }

    /// Releases all, last first; goes on after a failure and logs each.
    pub(crate) async fn run(mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step.await {
                tracing::warn!(%error, "undo: {what}");
            }
        }
    }
}
