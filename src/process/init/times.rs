// SPDX-License-Identifier: Apache-2.0
//! When the steps of the container's process began, told to whoever asks: `--trace`, and `start` for the steps after the gate. Called by
//! `init`.

use super::Init;
use crate::process::sync::ToParent;
use crate::trace::{self, Span, Times};

impl Init<'_> {
    /// Tells when the steps so far began. Nobody depends on it.
    #[inline(never)] // Rare.
    pub(super) fn tell_times(&mut self, closed: bool) {
        if !self.timed {
            return;
        }
        if closed {
            self.marks.push(trace::now());
        }
        let spans = trace::take();
        let mut times = Times { marks: self.marks.clone(), closed, spans: spans.clone() };
        match (&self.channel, &self.gate) {
            (Some(channel), _) => {
                // Each message says all that there is.
                spans.into_iter().for_each(|span| trace::add(0, span));
                let _ = channel.send(&ToParent::Times(times), None);
            }
            (None, Some(gate)) => {
                // `start` has no plan.
                let steps = self.work.steps.get(self.first..).unwrap_or_default();
                let own = Times { marks: std::mem::take(&mut times.marks), closed, spans: Vec::new() };
                for ((_, begin, end), step) in own.steps(0).zip(steps) {
                    times.spans.push(Span { name: step.op.to_string(), at: step.at.clone(), begin, end });
                }
                gate.tell(&times);
            }
            (None, None) => {}
        }
    }
}
