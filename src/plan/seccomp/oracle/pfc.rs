// SPDX-License-Identifier: Apache-2.0
//! libseccomp's "pseudo filter code": its rules in words, before it makes BPF of them.

use libseccomp::ScmpFilterContext;

use super::super::{Action, X32_SYSCALL_BIT};
use super::scmp::read_pipe;

/// libseccomp's other output, "pseudo filter code": the rules as it understood them, in text.
#[derive(Debug)]
pub(super) struct Pfc {
    /// Indentation, words. The arch tests have their line doubled by one that tells x32 from x86_64,
    /// which the text does not do.
    lines: Vec<(usize, String)>,
}

impl Pfc {
    pub(super) fn export(ctx: &ScmpFilterContext) -> Pfc {
        let text = String::from_utf8(read_pipe(|writer| ctx.export_pfc(writer).unwrap())).unwrap();
        let mut lines = Vec::new();
        let mut x32 = "";
        for line in text.lines() {
            let words = line.trim_start();
            let indent = line.len() - words.len();
            if let Some(arch) = words.strip_prefix("# filter for arch ") {
                x32 = match arch.split(' ').next() {
                    Some("x32") => "if ($x32 == 1)",
                    Some("x86_64") => "if ($x32 == 0)",
                    _ => "",
                };
            } else if words.starts_with("if ($arch") && !x32.is_empty() {
                lines.extend([(0, words.to_string()), (1, x32.to_string())]);
            } else if !words.starts_with('#') {
                lines.push((indent, words.to_string()));
            }
        }
        Pfc { lines }
    }

    /// The answer of the first action that evaluation meets.
    pub(super) fn ask(&self, audit: u32, nr: u32, args: &[u64; 6]) -> u32 {
        self.block(0, self.lines.len(), audit, nr, args).unwrap()
    }

    /// Evaluates lines, all of which have at least the first one's indentation.
    fn block(&self, from: usize, to: usize, audit: u32, nr: u32, args: &[u64; 6]) -> Option<u32> {
        let (indent, _) = self.lines.get(from).filter(|_| from < to)?;
        let end_of = |at: usize| (at + 1..to).find(|i| self.lines[*i].0 <= *indent).unwrap_or(to);
        let mut at = from;
        while at < to {
            let line = &self.lines[at].1;
            if let Some(action) = line.strip_prefix("action ") {
                return Some(pfc_action(action.trim_end_matches(';')));
            }
            let test = line.strip_prefix("if (").unwrap().trim_end_matches(')');
            let then = end_of(at);
            let has_else = then < to && self.lines[then].1 == "else";
            let end = if has_else { end_of(then) } else { then };
            let found = if pfc_test(test, audit, nr, args) {
                self.block(at + 1, then, audit, nr, args)
            } else if has_else {
                self.block(then + 1, end, audit, nr, args)
            } else {
                None
            };
            if found.is_some() {
                return found;
            }
            at = end;
        }
        None
    }
}

fn pfc_action(words: &str) -> u32 {
    let (name, data) = words.trim_end_matches(')').split_once('(').unwrap_or((words, "0"));
    let data: u16 = data.parse().unwrap();
    let action = match name {
        "ALLOW" => Action::Allow,
        "KILL" => Action::KillThread,
        "KILL_PROCESS" => Action::KillProcess,
        "TRAP" => Action::Trap,
        "ERRNO" => Action::Errno(data),
        "TRACE" => Action::Trace(data),
        "LOG" => Action::Log,
        "0x7fc00000" | "NOTIFY" => Action::Notify,
        other => panic!("pseudo filter code has action {other}"),
    };
    action.verdict()
}

fn pfc_test(test: &str, audit: u32, nr: u32, args: &[u64; 6]) -> bool {
    let words: Vec<&str> = test.split(' ').collect();
    let (what, half) = words[0].split_once('.').unwrap_or((words[0], "lo32"));
    let value = match what {
        "$arch" => audit,
        "$syscall" => nr,
        "$x32" => u32::from(nr & X32_SYSCALL_BIT != 0),
        arg => {
            let arg = args[arg.strip_prefix("$a").unwrap().parse::<usize>().unwrap()];
            if half == "hi32" { (arg >> 32) as u32 } else { arg as u32 }
        }
    };
    let number = |w: &str| w.parse::<u64>().unwrap() as u32;
    match words[1..] {
        ["==", k] => value == number(k),
        [">", k] => value > number(k),
        [">=", k] => value >= number(k),
        ["&", mask, "==", k] => value & u32::from_str_radix(&mask[2..], 16).unwrap() == number(k),
        _ => panic!("pseudo filter code has test {test}"),
    }
}
