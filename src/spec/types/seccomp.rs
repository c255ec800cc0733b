// SPDX-License-Identifier: Apache-2.0
//! `linux.seccomp` of config.json (config-linux.md, "Seccomp").

use serde::{Deserialize, Serialize};

use super::{Field, object};

object! {
    /// The system call filter.
    pub struct Seccomp {
        /// `SCMP_ACT_ERRNO`, …: for calls that no rule names.
        default_action: String,
        /// The errno (or trace message) of that action; absent means EPERM.
        default_errno_ret: Option<u32>,
        /// `SCMP_ARCH_X86_64`, …: architectures the rules are for besides the host's own.
        architectures: Vec<String>,
        /// `SECCOMP_FILTER_FLAG_LOG`, …
        flags: Vec<String>,
        /// The socket to send the listener of SCMP_ACT_NOTIFY to.
        listener_path: String,
        /// What to tell that listener.
        listener_metadata: String,
        /// The rules.
        syscalls: Vec<SeccompSyscall>,
    }

    /// One rule.
    pub struct SeccompSyscall {
        /// The calls, by name; at least one.
        names: Vec<String>,
        /// What to do on them.
        action: String,
        /// The errno (or trace message) of that action; absent means EPERM.
        errno_ret: Option<u32>,
        /// Conditions that must all hold.
        args: Vec<SeccompArg>,
    }
}

/// One condition on an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument: 0 to 5.
    pub index: u32,
    /// To compare with; the mask of SCMP_CMP_MASKED_EQ.
    pub value: u64,
    /// The value of SCMP_CMP_MASKED_EQ.
    #[serde(default, deserialize_with = "Field::read", skip_serializing_if = "Field::is_absent")]
    pub value_two: Option<u64>,
    /// `SCMP_CMP_EQ`, …
    pub op: String,
}
