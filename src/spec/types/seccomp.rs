// SPDX-License-Identifier: Apache-2.0
//! `linux.seccomp` of config.json (config-linux.md, "Seccomp").

use super::{CallNames, object};

object! {
    /// The system call filter.
    pub struct Seccomp {
        /// `SCMP_ACT_ERRNO`, …: for calls that no rule names.
        default_action: String = "defaultAction",
        /// The errno (or trace message) of that action; absent means EPERM.
        default_errno_ret: Option<u32> = "defaultErrnoRet",
        /// `SCMP_ARCH_X86_64`, …: architectures the rules are for besides the host's own.
        architectures: Vec<String> = "architectures",
        /// `SECCOMP_FILTER_FLAG_LOG`, …
        flags: Vec<String> = "flags",
        /// The socket to send the listener of SCMP_ACT_NOTIFY to.
        listener_path: String = "listenerPath",
        /// What to tell that listener.
        listener_metadata: String = "listenerMetadata",
        /// The rules.
        syscalls: Vec<SeccompSyscall> = "syscalls",
    }

    /// One rule.
    pub struct SeccompSyscall {
        /// The calls, by name; at least one.
        names: CallNames = "names",
        /// What to do on them.
        action: String = "action",
        /// The errno (or trace message) of that action; absent means EPERM.
        errno_ret: Option<u32> = "errnoRet",
        /// Conditions that must all hold.
        args: Vec<SeccompArg> = "args",
    }

    /// One condition on an argument.
    #[derive(Eq)]
    pub struct SeccompArg {
        /// Which argument: 0 to 5.
        index: u32 = "index" required,
        /// To compare with; the mask of SCMP_CMP_MASKED_EQ.
        value: u64 = "value" required,
        /// The value of SCMP_CMP_MASKED_EQ.
        value_two: Option<u64> = "valueTwo",
        /// `SCMP_CMP_EQ`, …
        op: String = "op" required,
    }
}
