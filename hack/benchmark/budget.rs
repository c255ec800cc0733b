// SPDX-License-Identifier: Apache-2.0
//! The budget: counts that a change may not raise without saying so in budget.txt. Counts, not times: they are the same on every machine.

use std::path::Path;

use crate::bundle::Bundles;
use crate::cases::{COMMANDS, syscalls_of};
use crate::measure::{Outcome, Runtime, pid_in, pss_of, reap};

/// Holds a runtime against the lines `NAME MOST` of a file. Whether all are kept.
pub fn check(runtime: &Runtime, bundles: &Bundles, file: &Path) -> Outcome<bool> {
    let mut found = vec![("size-bytes".to_string(), std::fs::metadata(&runtime.path)?.len())];
    for (command, calls) in COMMANDS.iter().zip(syscalls_of(runtime, bundles)?) {
        found.push((format!("syscalls-{command}"), calls));
    }
    found.extend(memory(runtime, bundles)?);
    let text = std::fs::read_to_string(file)?;
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, most) = line.split_once(char::is_whitespace).ok_or(format!("{}: not NAME MOST: {line}", file.display()))?;
        let most: u64 = most.trim().parse().map_err(|_| format!("{}: not a number: {line}", file.display()))?;
        let number =
            found.iter().find(|(known, _)| known == name).ok_or(format!("{}: nothing is named {name}", file.display()))?.1;
        if number <= most {
            println!("ok budget {name}: {number} of {most}");
            passed += 1;
        } else {
            println!("FAIL budget {name}: {number}, more than {most}");
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    Ok(failed == 0 && passed > 0)
}

/// The peak memory of commands, the least of five since the kernel counts it in batches, and what a waiting init takes.
fn memory(runtime: &Runtime, bundles: &Bundles) -> Outcome<Vec<(String, u64)>> {
    let pid_file = bundles.scratch("pid");
    let file = pid_file.to_string_lossy();
    let (short, long) = (bundles.path("true"), bundles.path("pause"));
    let mut least = [u64::MAX; 7];
    let mut waiting = u64::MAX;
    for _ in 0..5 {
        let mut peak = |index: usize, arguments: &[&str]| -> Outcome {
            least[index] = least[index].min(runtime.cost(arguments)?.peak_kib as u64);
            Ok(())
        };
        peak(0, &["run", "--bundle", &short, "memory"])?;
        peak(1, &["create", "--bundle", &long, "--pid-file", &file, "memory"])?;
        let pid = pid_in(&pid_file)?;
        waiting = waiting.min(pss_of(pid) as u64);
        peak(2, &["state", "memory"])?;
        peak(3, &["start", "memory"])?;
        peak(4, &["exec", "memory", "/bin/true"])?;
        peak(5, &["kill", "memory", "KILL"])?;
        reap(pid);
        peak(6, &["delete", "memory"])?;
    }
    let peaks = COMMANDS.iter().zip(least).map(|(command, kib)| (format!("peak-kib-{command}"), kib));
    Ok(peaks.chain([("waiting-pss-kib".to_string(), waiting)]).collect())
}
