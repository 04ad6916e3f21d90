//! What the control thread does when an operator asks for a reload.

use super::{Control, Outcome};
use crate::app::request::{Request, Running, upgrading};
use crate::observe::{Refused, Why};

impl Control {
    /// Does what an operator asks for, and answers when it is done: a reload may have to wait for names, and those who ask meanwhile wait
    /// their turn.
    pub(super) fn take(&mut self, request: Request) {
        match self.heed(&request) {
            Some(answer) => request.answer(answer),
            None => self.held = Some(request),
        }
    }

    /// How it went; nothing while it waits.
    fn heed(&mut self, request: &Request) -> Option<Result<String, Refused>> {
        if self.successor.is_some() {
            return Some(Err(upgrading()));
        }
        let running = self.running();
        let plan = running.plan(&request.asked);
        if request.asked.dry_run {
            let said = |differs| if differs { "differs" } else { "unchanged" };
            return Some(plan.map(|plan| running.said(said(plan.differs()), Some(&plan))));
        }
        // A file with problems is refused below, where it shows in the metrics too.
        let plan = match plan {
            Err(refused) if refused.why != Why::Invalid => return Some(Err(refused)),
            plan => plan.ok(),
        };
        match self.hang_up() {
            Outcome::Live => Some(Ok(self.running().said("live", plan.as_ref()))),
            Outcome::Unchanged => Some(Ok(self.running().said("unchanged", plan.as_ref()))),
            Outcome::Refused(detail) => Some(Err(Refused { why: Why::Invalid, detail })),
            Outcome::Later => None,
        }
    }

    fn running(&self) -> Running<'_> {
        let (path, text, config) = (&self.path, &self.text, self.assembly.config());
        Running { path, text, config, generation: self.generation }
    }
}
