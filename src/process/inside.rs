// SPDX-License-Identifier: Apache-2.0
//! Reading files of /proc/sys as a container's namespaces have them: the kernel answers each reader for the namespaces that it is in.
//! Called by `container::diff`.

use std::os::fd::AsFd;

use crate::error::{Result, Told};
use crate::linux::clone::{self, CloneArgs, Cloned, clone3, exit_now};
use crate::linux::types::Namespaces;
use crate::linux::{fd, pid};
use crate::spec::load;

/// Largest value that is read.
const MOST: usize = 1 << 12;

/// Reads files of the host's tree from within `kinds` of the namespaces of a process (by its pidfd): a child enters them and ends. `None`
/// for what cannot be read there.
pub fn read(process: impl AsFd, kinds: Namespaces, paths: &[String]) -> Result<Vec<Option<String>>> {
    let told = || "cannot look into the container's namespaces".to_string();
    let (reader, writer) = fd::pipe().told(told)?;
    match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() }).told(told)? {
        Cloned::Child => {
            if kinds.is_empty() || clone::setns(process, kinds).is_ok() {
                let all: Vec<Option<String>> = paths.iter().map(|path| value(path)).collect();
                // Where it cannot be written there is no answer, which the reader sees.
                let _ = fd::write_all(&writer, &serde_json::to_vec(&all).unwrap_or_default());
            }
            exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(writer);
            let bytes = fd::read_bounded(&reader, MOST * (paths.len() + 1)).told(told);
            pid::wait(&pidfd).told(told)?;
            let all: Vec<Option<String>> = load::json(&bytes?).unwrap_or_default();
            Ok(if all.len() == paths.len() { all } else { vec![None; paths.len()] })
        }
    }
}

fn value(path: &str) -> Option<String> {
    let bytes = fd::read_file_bounded(path, MOST).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::{cred, test_child};

    #[test]
    fn what_is_read_is_the_namespaces_own() {
        if !test_child::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        test_child::in_child(|| {
            let path = ["/proc/sys/kernel/hostname".to_string(), "/proc/sys/none".to_string()];
            let before = read(pid::pidfd_open(pid::getpid()).unwrap(), Namespaces::empty(), &path).unwrap();
            let (go, ready) = fd::pipe().unwrap();
            let args = CloneArgs { namespaces: Namespaces::UTS, ..CloneArgs::default() };
            let Cloned::Parent { pidfd, .. } = clone3(&args)
                .map(|cloned| match cloned {
                    Cloned::Child => {
                        cred::sethostname("elsewhere").unwrap();
                        fd::write_all(&ready, b"x").unwrap();
                        loop {
                            pid::pause()
                        }
                    }
                    parent => parent,
                })
                .unwrap()
            else {
                unreachable!()
            };
            fd::read_some(&go, &mut [0]).unwrap();
            let inside = read(&pidfd, Namespaces::UTS, &path).unwrap();
            pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
            pid::wait(&pidfd).unwrap();
            assert_eq!(inside, [Some("elsewhere".to_string()), None]);
            assert_ne!(before[0], inside[0]);
        });
    }
}
