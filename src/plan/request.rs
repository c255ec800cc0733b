// SPDX-License-Identifier: Apache-2.0
//! What the command line said, and nothing more: filled by `cli`, read by the plan.

use crate::error::{Error, Kind, Result};

/// A container id that has been checked once: safe as the name of a directory, a cgroup and a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// Longest id: the kernel's limit for one file name (NAME_MAX).
    pub const MAX: usize = 255;

    /// Checks an id: letters, digits and `_ + . -`, not `.` or `..`, and not over [`Id::MAX`] characters. That is runc's rule.
    pub fn parse(text: &str) -> Result<Id> {
        if text.is_empty() {
            return Err(Error::new(Kind::Usage, "container id cannot be empty"));
        }
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        let bad = |rule: &str| Err(Error::new(Kind::Usage, format!("invalid container ID format: \"{shown}\": {rule}")));
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte)) {
            return bad("only letters, digits and _ + . - are allowed");
        }
        if text == "." || text == ".." {
            return bad("it would be another directory's name");
        }
        if text.len() > Id::MAX {
            return bad("it is longer than 255 characters");
        }
        Ok(Id(text.to_string()))
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How cgroups are driven: `--systemd-cgroup`, `--cgroup-manager`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// Through the cgroup file system.
    #[default]
    Cgroupfs,
    /// Through transient units of systemd.
    Systemd,
    /// Not at all.
    Disabled,
}

/// `--rootless`: whether cgroup failures may be passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// Not said: rootless where the runtime is not privileged; but limits that cannot be set are an error.
    #[default]
    Unsaid,
    /// Rootless where the runtime is not privileged.
    Auto,
    /// Rootless.
    True,
    /// Not rootless.
    False,
}

/// Which of the two verbs that make a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stop before the program, until `start`.
    Create,
    /// Go on to the program.
    Run,
}

/// A request to make a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// create or run.
    pub verb: Verb,
    /// The container's id.
    pub id: Id,
    /// The bundle's directory, absolute.
    pub bundle: String,
    /// `--config`, absolute: read instead of the bundle's config.json.
    pub config: Option<String>,
    /// The state root, absolute.
    pub root: String,
    /// `--console-socket`, absolute.
    pub console_socket: Option<String>,
    /// `--pidfd-socket`, absolute.
    pub pidfd_socket: Option<String>,
    /// `--pid-file`, absolute.
    pub pid_file: Option<String>,
    /// `--preserve-fds`: this many after those of LISTEN_FDS.
    pub preserve_fds: u32,
    /// LISTEN_FDS, where LISTEN_PID is this process (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// NOTIFY_SOCKET (sd_notify(3)), where it is set and not empty.
    pub notify_socket: Option<String>,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `run --detach`; create always is.
    pub detach: bool,
    /// `run --keep`
    pub keep: bool,
    /// `run --no-subreaper`
    pub no_subreaper: bool,
    /// The cgroup driver.
    pub cgroup_manager: CgroupManager,
    /// `--rootless`
    pub rootless: Rootless,
}

impl Request {
    /// `create` of `id` with nothing else said; tests change what they are about.
    pub fn create(id: Id, bundle: &str, root: &str) -> Request {
        Request {
            verb: Verb::Create,
            id,
            bundle: bundle.into(),
            config: None,
            root: root.into(),
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            preserve_fds: 0,
            listen_fds: 0,
            notify_socket: None,
            no_pivot: false,
            no_new_keyring: false,
            detach: true,
            keep: false,
            no_subreaper: false,
            cgroup_manager: CgroupManager::Cgroupfs,
            rootless: Rootless::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_file_names() {
        for good in ["a", "web-1", "A_b+c.d", ".x", "-x", "...", &"x".repeat(255)] {
            assert!(Id::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\nb", "é", &"x".repeat(256)] {
            assert!(Id::parse(bad).is_err(), "{bad}");
        }
    }
}
