//! What steps take that their process need not make itself. It is there when that begins, or comes from the caller one by one while it
//! goes on, in the order in which steps take it.

use std::{collections::VecDeque, os::fd::OwnedFd, vec};

use tinyd_core::Result;

use super::impossible;
use crate::{
    launch::sync::{Phase, Sync},
    plan::{Plan, Supply, mounts::Source},
};

/// What there is, and what is yet to come.
#[derive(Debug)]
pub(crate) struct Supplies<'a> {
    plan: &'a Plan,
    sources: Vec<Option<OwnedFd>>,
    /// File systems, the next one first; none where steps make them.
    made: VecDeque<OwnedFd>,
    coming: vec::IntoIter<Supply<'a>>,
}

impl<'a> Supplies<'a> {
    /// Only sources, one for each of the plan's: those that are there.
    pub(crate) fn here(plan: &'a Plan, sources: Vec<Option<OwnedFd>>) -> Self {
        Supplies { plan, sources, made: VecDeque::new(), coming: Vec::new().into_iter() }
    }

    /// What [`Plan::supplies`] lists comes with [`Phase::Cgroup`], one by one.
    pub(crate) fn coming(plan: &'a Plan) -> Self {
        let sources = plan.sources.iter().map(|_| None).collect();
        let coming = plan.supplies().collect::<Vec<_>>().into_iter();
        Supplies { coming, ..Supplies::here(plan, sources) }
    }

    /// Sources that are not there, and what becomes of them.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = (&'a Source, &mut Option<OwnedFd>)> {
        self.plan.sources.iter().zip(&mut self.sources).filter(|(_, open)| open.is_none())
    }

    /// What somebody has made for a step; none where the step makes it.
    ///
    /// # Errors
    /// What kept the caller from it.
    pub(super) fn take(&mut self, supply: Supply<'_>, sync: &mut Sync) -> Result<Option<OwnedFd>> {
        loop {
            let found = match supply {
                Supply::Source(at) => self.sources.get_mut(at).and_then(Option::take),
                Supply::Fs(_) => self.made.pop_front(),
            };
            if found.is_some() || !self.hear(sync)? {
                return Ok(found);
            }
        }
    }

    /// Has all that is yet to come.
    ///
    /// # Errors
    /// What kept the caller from it.
    pub(super) fn take_all(&mut self, sync: &mut Sync) -> Result<()> {
        while self.hear(sync)? {}
        Ok(())
    }

    /// Hears of the next one; whether there was one to come.
    fn hear(&mut self, sync: &mut Sync) -> Result<bool> {
        let Some(next) = self.coming.next() else { return Ok(false) };
        let (_, mut fds) = sync.hear_phase(Phase::Cgroup)?;
        let fd = fds.pop().ok_or_else(|| impossible("a supply that did not come"))?;
        match next {
            Supply::Source(at) => {
                let source = self.sources.get_mut(at).ok_or_else(|| impossible("a source of no plan"))?;
                *source = Some(fd);
            }
            Supply::Fs(_) => self.made.push_back(fd),
        }
        Ok(true)
    }
}
