// SPDX-License-Identifier: Apache-2.0
//! Who the container's process becomes: user, groups, capabilities (config.md, "User" and "Linux Process"; capabilities(7), user_namespaces(7)).
//!
//! Called by `init`. Everything is verified afterwards by asking the kernel: a privilege that was not dropped ends the container, with an
//! error and not a warning. Several runtimes have lost this at one point or another (CVE-2022-29162, CVE-2026-30892).

use crate::error::{Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::cred::{self, Capabilities};
use crate::linux::types::CapSet;
use crate::plan::step::Identity;

/// Takes on user and group 0 of the user namespace that this process is in: what the steps until [`become_user`] are done as.
pub fn become_namespace_root() -> Result<()> {
    let told = || "cannot become user 0 of the user namespace".to_string();
    cred::setresgid(0).and_then(|()| cred::setresuid(0)).told(told)?;
    if cred::ids() == (0, 0, 0, 0) { Ok(()) } else { Err(Error::new(Kind::Kernel, told())) }
}

/// Becomes the user that the program runs as. Until [`drop_kept`], the capabilities kept for loading the seccomp filter are still there.
pub fn become_user(identity: &Identity) -> Result<()> {
    let told = || format!("cannot become user {}:{}", identity.uid, identity.gid);
    // Inheritable capabilities must be in the bounding set when they are set, not when they are used (capset(2)).
    if identity.inheritable != CapSet::default() {
        let now = cred::capget().told(told)?;
        cred::capset(&Capabilities { inheritable: identity.inheritable, ..now }).told(told)?;
    }
    cred::limit_bounding(identity.bounding, identity.last_bounding).told(told)?;
    change_ids(identity).told(told)?;
    let wanted = with_kept(identity);
    cred::capset(&wanted).told(|| format!("cannot set the capabilities of user {}", identity.uid))?;
    // Whatever the caller had here is cleared too: setresuid(2) does it only where user 0 is left, capset(2) of what is inheritable no more.
    if identity.inheritable != CapSet::default() {
        cred::clear_ambient()
            .and_then(|()| cred::raise_ambient(identity.ambient))
            .told(|| "cannot set the ambient capabilities".into())?;
    }
    verify(identity, &wanted)
}

fn change_ids(identity: &Identity) -> call::Result<()> {
    // Who stays user 0 loses nothing by the change.
    let leaves_root = identity.uid != 0;
    if leaves_root {
        cred::set_keep_capabilities(true)?;
    }
    if let Some(groups) = &identity.groups {
        cred::setgroups(groups)?;
    }
    cred::setresgid(identity.gid)?;
    cred::setresuid(identity.uid)?;
    if leaves_root { cred::set_keep_capabilities(false) } else { Ok(()) }
}

/// Drops the capabilities that were kept for loading the seccomp filter.
pub fn drop_kept(identity: &Identity) -> Result<()> {
    if identity.keep_for_seccomp == CapSet::default() {
        return Ok(());
    }
    cred::capset(&final_sets(identity)).told(|| "cannot drop the capabilities that loading the seccomp filter needed".into())
}

fn final_sets(identity: &Identity) -> Capabilities {
    Capabilities { effective: identity.effective, permitted: identity.permitted, inheritable: identity.inheritable }
}

fn with_kept(identity: &Identity) -> Capabilities {
    let kept = identity.keep_for_seccomp;
    let sets = final_sets(identity);
    Capabilities { effective: sets.effective | kept, permitted: sets.permitted | kept, ..sets }
}

fn verify(identity: &Identity, wanted: &Capabilities) -> Result<()> {
    let refused =
        |what: String| Err(Error::new(Kind::Kernel, format!("the kernel did not give the process its identity: {what}")));
    let ids = cred::ids();
    if ids != (identity.uid, identity.uid, identity.gid, identity.gid) {
        return refused(format!("user and group are {ids:?}, not {}:{}", identity.uid, identity.gid));
    }
    let sets = cred::capget().told(|| "cannot verify the capabilities".into())?;
    if sets != *wanted {
        return refused(format!("capabilities are {sets:?}, not {wanted:?}"));
    }
    if let Some(wanted) = &identity.groups {
        let mut groups = cred::getgroups().told(|| "cannot verify the groups".into())?;
        let mut wanted = wanted.clone();
        groups.sort_unstable();
        wanted.sort_unstable();
        if groups != wanted {
            return refused(format!("supplementary groups are {groups:?}, not {wanted:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;

    const CHOWN: CapSet = CapSet(1);
    const KILL: CapSet = CapSet(1 << 5);
    const SETUID: CapSet = CapSet(1 << 7);

    fn identity() -> Identity {
        Identity {
            uid: 1234,
            gid: 2345,
            groups: Some(vec![77, 9]),
            bounding: CHOWN | KILL,
            last_bounding: 63,
            effective: CHOWN,
            permitted: CHOWN | KILL,
            inheritable: KILL | SETUID,
            ambient: KILL,
            keep_for_seccomp: CapSet::default(),
        }
    }

    /// A field of /proc/self/status.
    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn is_root() -> bool {
        let root = cred::ids().1 == 0;
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    #[test]
    fn everything_is_as_asked() {
        if !is_root() {
            return;
        }
        in_child(|| {
            become_user(&identity()).unwrap();
            assert_eq!((status("Uid"), status("Gid")), ("1234 1234 1234 1234".into(), "2345 2345 2345 2345".into()));
            assert_eq!(status("Groups"), "9 77");
            assert_eq!(status("CapBnd"), "0000000000000021");
            assert_eq!(status("CapPrm"), "0000000000000021");
            // Raising an ambient capability does not make it effective now; execve(2) does.
            assert_eq!(status("CapEff"), "0000000000000001");
            assert_eq!(status("CapInh"), "00000000000000a0");
            assert_eq!(status("CapAmb"), "0000000000000020");
        });
    }

    #[test]
    fn nothing_means_nothing() {
        if !is_root() {
            return;
        }
        in_child(|| {
            // What a careless caller may have left behind.
            cred::setgroups(&[4, 5, 6]).unwrap();
            let all = cred::capget().unwrap();
            cred::capset(&Capabilities { inheritable: all.permitted, ..all }).unwrap();
            cred::raise_ambient(CHOWN | KILL).unwrap();
            let nobody = Identity {
                uid: 0,
                gid: 0,
                groups: Some(vec![]),
                bounding: CapSet(0),
                last_bounding: 63,
                effective: CapSet(0),
                permitted: CapSet(0),
                inheritable: CapSet(0),
                ambient: CapSet(0),
                keep_for_seccomp: CapSet(0),
            };
            become_user(&nobody).unwrap();
            assert_eq!(status("Groups"), "");
            for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
        });
    }

    #[test]
    fn what_seccomp_needs_is_kept_and_dropped() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let kept = Identity { keep_for_seccomp: CapSet::SYS_ADMIN, ..identity() };
            become_user(&kept).unwrap();
            assert_eq!((status("CapPrm"), status("CapEff")), ("0000000000200021".into(), "0000000000200001".into()));
            drop_kept(&kept).unwrap();
            assert_eq!((status("CapPrm"), status("CapEff")), ("0000000000000021".into(), "0000000000000001".into()));
        });
    }

    /// `init` asks for its death signal again only where ids change.
    #[test]
    fn who_only_loses_capabilities_still_dies_with_the_runtime() {
        use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
        use crate::linux::{fd, pid};
        if !is_root() {
            return;
        }
        in_child(|| {
            pid::set_child_subreaper(true).unwrap();
            let (reader, writer) = fd::pipe().unwrap();
            let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
                if let Ok(Cloned::Child) = clone3(&CloneArgs::default()) {
                    pid::set_parent_death_signal(libc::SIGKILL).unwrap();
                    become_user(&Identity { uid: 0, gid: 0, inheritable: CapSet(0), ambient: CapSet(0), ..identity() }).unwrap();
                    fd::write_all(&writer, b"x").unwrap();
                    std::thread::sleep(std::time::Duration::from_secs(20));
                    exit_now(0)
                }
                let _ = nix::unistd::read(&reader, &mut [0]);
                exit_now(0)
            };
            drop(writer);
            pid::wait(&pidfd).unwrap();
            assert_eq!(pid::wait_any(true).unwrap().map(|(_, exit)| exit), Some(pid::Exit::Signal(libc::SIGKILL)));
        });
    }

    #[test]
    fn a_refusal_is_an_error() {
        if !is_root() {
            return;
        }
        in_child(|| {
            become_user(&identity()).unwrap();
            let error = become_user(&Identity { uid: 0, ..identity() }).unwrap_err();
            assert!(error.to_string().contains("cannot become user 0:2345"), "{error}");
            let all = Capabilities { effective: CHOWN, permitted: CHOWN, ..Default::default() };
            assert!(verify(&identity(), &all).unwrap_err().to_string().contains("capabilities are"));
            assert!(verify(&Identity { uid: 1, ..identity() }, &all).unwrap_err().to_string().contains("user and group"));
        });
    }
}
