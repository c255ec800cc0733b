// SPDX-License-Identifier: Apache-2.0
//! The wait at the start gate. A created container may wait for hours, and there may be hundreds of them: the process goes on with that
//! alone which it needs from there on. Called by `init`.

use crate::error::Result;
use crate::hooks;
use crate::linux::memory;
use crate::plan::step::{Op, Step};
use crate::plan::{Exec, Hooks};
use crate::process::gate::Gate;
use crate::trace;

use super::{Init, InitContext, Work};

impl Init<'_> {
    /// Goes on with the wait for `start`, which is this step. It may last for hours: so with that alone which is needed then.
    pub(super) fn go_on_at_the_gate(&mut self, step: usize) {
        let Some(gate) = self.gate.take() else { return };
        let [fifo, errors] = gate.into_fds();
        trace::begin_process(false);
        let hooks::Output { stdout, stderr } = std::mem::take(&mut self.hook_output);
        let fds = [Some(fifo), Some(errors), self.listener.take(), stdout, stderr];
        memory::leave_behind(fds, || self.kept_from(step), Init::arrive)
    }

    /// A copy of what is needed from this step on.
    fn kept_from(&self, step: usize) -> Init<'static> {
        let Work { steps, hooks, exec, state } = self.work;
        let hooks = Hooks { start_container: hooks.start_container.clone(), ..Hooks::default() };
        let exec = Exec { inherited_fds: exec.inherited_fds, ..Exec::default() };
        let steps: &'static [Step] = Vec::leak(steps.get(step..).unwrap_or_default().to_vec());
        let (hooks, exec, state) = Box::leak(Box::new((hooks, exec, state.clone())));
        let context = InitContext { ignored: self.ignored, ..InitContext::default() };
        Init {
            done: step,
            joining: self.joining,
            bound: self.bound,
            identity: self.identity.clone(),
            pid: self.pid,
            last: self.last.clone(),
            ..Init::new(Work { steps, hooks, exec, state }, context, None)
        }
    }

    /// The process as it waits at the gate.
    fn arrive((init, fds): &'static mut memory::Kept<Init<'static>, 5>) -> ! {
        let [fifo, errors, listener, stdout, stderr] = fds;
        init.hook_output = hooks::Output { stdout: stdout.take(), stderr: stderr.take() };
        init.listener = listener.take();
        init.gate = fifo.take().zip(errors.take()).map(|(fifo, errors)| Gate::of([fifo, errors]));
        init.carry_out()
    }

    /// Waits for `start`, whose trace begins now.
    pub(super) fn await_start(&mut self) -> Result<()> {
        let Some(gate) = &self.gate else { return Ok(()) };
        self.timed = gate.wait()?;
        trace::begin_process(self.timed);
        self.marks.clear();
        self.first = self.work.steps.iter().position(|step| step.op == Op::AwaitStart).map_or(0, |at| at + 1);
        Ok(())
    }
}
