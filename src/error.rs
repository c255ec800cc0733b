// SPDX-License-Identifier: Apache-2.0
//! The one error of the floors above the kernel's: what was being done, to what, the kernel's answer, and what to do about it.
//!
//! Made where the failure is understood, returned upwards unchanged, and turned into text, a log line and an exit status in one place:
//! `main.rs`. Clients match parts of these texts (`container does not exist`, `no such file or directory`, …); the tests of
//! `integration/` hold them.

use std::fmt;

pub mod codes;

use crate::linux::call::{CallError, errno_text};
use crate::linux::types::{Errno, errno_name};
pub use codes::Code;

/// What sort of failure this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// config.json, process.json or a resources file is not acceptable.
    Config,
    /// The command line is not acceptable.
    Usage,
    /// No container of this id.
    NotFound,
    /// A container of this id exists already.
    Exists,
    /// The container's status does not allow the operation.
    Status,
    /// The kernel refused an operation.
    Kernel,
    /// This host or build cannot do what is asked.
    Unsupported,
    /// The program to run was not found or may not be run.
    Program,
    /// A hook failed.
    Hook,
    /// The container's saved state is missing or damaged.
    State,
    /// Another process broke the protocol or died.
    Peer,
    /// The kernel killed the container's process for lack of memory.
    OutOfMemory,
}

impl Kind {
    /// The stable code of a failure of this sort about which nothing more is known than what the kernel answered.
    fn code(self, errno: Option<Errno>) -> Code {
        match self {
            Kind::Config => Code::Config,
            Kind::Usage => Code::Usage,
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::Exists,
            Kind::Status => Code::Status,
            Kind::Kernel => errno.map_or(Code::Kernel, answered),
            Kind::Unsupported => Code::Unsupported,
            Kind::Program => Code::Program,
            Kind::Hook => Code::Hook,
            Kind::State => Code::State,
            Kind::Peer => Code::Peer,
            Kind::OutOfMemory => Code::Oom,
        }
    }
}

/// What an errno means whatever the call was.
fn answered(errno: Errno) -> Code {
    match errno {
        Errno::EPERM | Errno::EACCES => Code::Permission,
        Errno::ENOENT | Errno::ENOTDIR => Code::MissingPath,
        Errno::ENOSPC | Errno::EDQUOT => Code::NoSpace,
        Errno::EROFS => Code::ReadOnly,
        Errno::EMFILE | Errno::ENFILE => Code::OpenFiles,
        Errno::ENOMEM => Code::NoMemory,
        Errno::EBUSY => Code::Busy,
        Errno::ENOSYS => Code::NoSyscall,
        _ => Code::Kernel,
    }
}

/// Whose list of steps a number is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The runtime's: `plan.parent`.
    Runtime,
    /// The container's process's: `plan.child`.
    #[default]
    Process,
}

/// A failure, with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The sort of failure.
    pub kind: Kind,
    /// What is behind it, where more is known than its sort: [`Error::code`].
    pub cause: Option<Code>,
    /// What was being done, to what: `cannot mount "proc" at /proc`.
    pub what: String,
    /// Where in the configuration it was asked for: `mounts[0].options[2]`.
    pub config: Option<String>,
    /// Which step of the plan: number (from 1) and how many there are.
    pub step: Option<(u32, u32)>,
    /// Whose step that is.
    pub side: Side,
    /// The system call as strace(1) would print it, without its result.
    pub call: Option<String>,
    /// What the kernel answered.
    pub errno: Option<Errno>,
    /// What the user can do.
    pub hint: Option<String>,
}

/// The result of everything above the kernel's floor.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `what`.
    #[cold]
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        let side = Side::default();
        Error { kind, cause: None, what: what.into(), config: None, step: None, side, call: None, errno: None, hint: None }
    }

    /// The stable code, which scripts may rely on and `berth explain` knows.
    pub fn code(&self) -> Code {
        self.cause.unwrap_or_else(|| self.kind.code(self.errno))
    }

    /// The same error, with the cause that its maker knows.
    #[must_use]
    pub fn cause(mut self, cause: Code) -> Error {
        self.cause = Some(cause);
        self
    }

    /// The same error, with a cause unless it knows a better one.
    #[must_use]
    pub fn or_cause(mut self, cause: Code) -> Error {
        self.cause = self.cause.or(Some(cause));
        self
    }

    /// What the user can do: what its maker knew, else what the table says of its code.
    pub fn advice(&self) -> Option<&str> {
        let usual = || Some(self.code().entry().hint).filter(|hint| !hint.is_empty());
        self.hint.as_deref().or_else(usual)
    }

    /// The same error, pointing at a field of the configuration.
    #[must_use]
    pub fn at(mut self, config: impl Into<String>) -> Error {
        let config = config.into();
        if !config.is_empty() {
            self.config = Some(config);
        }
        self
    }

    /// The same error, saying what was being done.
    #[cold]
    #[must_use]
    pub fn doing(mut self, what: impl Into<String>) -> Error {
        self.what = what.into();
        self
    }

    /// The same error, with advice.
    #[cold]
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with a system call and its errno.
    #[must_use]
    pub fn call(mut self, call: impl Into<String>, errno: Errno) -> Error {
        self.call = Some(call.into());
        self.errno = Some(errno);
        self
    }

    /// The same error, with the step of the runtime and the field where it happened, unless it knows better.
    #[must_use]
    pub fn of_step(mut self, number: u32, total: u32, config: &str) -> Error {
        if self.step.is_none() {
            (self.step, self.side) = (Some((number, total)), Side::Runtime);
        }
        if self.config.is_none() && !config.is_empty() {
            self.config = Some(config.to_string());
        }
        self
    }

    /// The same error, with the step of the container's process where it happened.
    #[must_use]
    pub fn step(mut self, number: u32, total: u32) -> Error {
        self.step = Some((number, total));
        self
    }
}

impl fmt::Display for Error {
    /// One line: `what (config): call = no such file or directory (ENOENT) [step 7 of 41 of the container's process]; hint: …`.
    /// What is quoted of the outside in it is made fit to be read: nobody's value can begin a line of its own, or be longer than anybody would read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.compose(&mut text)?;
        f.write_str(&readable(&text, self.kind == Kind::Usage))
    }
}

/// The longest word that is shown whole, and how much of a longer one: its beginning and its end.
const LONGEST_WORD: usize = 512;
const BEGINNING: usize = 200;
const END: usize = 60;
/// The longest text.
const LONGEST: usize = 6000;

/// The text without control characters (`lines` keeps line breaks: the help that a usage error shows), and with long words cut short.
pub(crate) fn readable(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for word in text.split_inclusive(' ') {
        if out.len() > LONGEST {
            out.push('…');
            break;
        }
        let start = word.char_indices().nth(BEGINNING).filter(|_| word.len() > LONGEST_WORD).map_or(word.len(), |(at, _)| at);
        let end = word.char_indices().rev().nth(END).map_or(start, |(at, _)| at.max(start));
        add_printable(&mut out, &word[..start], lines);
        if start < end {
            out.push('…');
        }
        add_printable(&mut out, &word[end..], lines);
    }
    out
}

fn add_printable(out: &mut String, text: &str, lines: bool) {
    for letter in text.chars() {
        let plain = letter == ' ' || letter.is_ascii_graphic() || (lines && letter == '\n');
        if plain || letter.escape_debug().len() == 1 {
            out.push(letter);
        } else {
            out.extend(letter.escape_debug());
        }
    }
}

impl Error {
    fn compose(&self, f: &mut String) -> fmt::Result {
        use fmt::Write;
        f.push_str(&self.what);
        if let Some(config) = &self.config {
            write!(f, " ({config})")?;
        }
        if let Some(call) = &self.call {
            write!(f, ": {call}")?;
        }
        if let Some(errno) = self.errno {
            let sign = if self.call.is_some() { " =" } else { ":" };
            write!(f, "{sign} {} ({})", errno_text(errno), errno_name(errno))?;
        }
        if let Some((number, total)) = self.step {
            let whose = if self.side == Side::Runtime { "the runtime" } else { "the container's process" };
            write!(f, " [step {number} of {total} of {whose}]")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        Error::new(Kind::Kernel, "").call(error.call, error.errno)
    }
}

/// Says what a system call was made for.
pub trait Told<T> {
    /// Turns a failed call into an [`Error`] that says `what` was being done; `what` runs only then.
    fn told(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Told<T> for crate::linux::call::Result<T> {
    #[inline]
    fn told(self, what: impl FnOnce() -> String) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(failed(error, what)),
        }
    }
}

/// Apart from where it may happen: what is said of a failure would lie on the pages of what mostly runs.
#[cold]
#[inline(never)]
fn failed(error: crate::linux::call::CallError, what: impl FnOnce() -> String) -> Error {
    Error::from(error).doing(what())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_everything_on_one_line() {
        let error = Error::new(Kind::Kernel, "cannot mount \"proc\" at /proc")
            .at("mounts[0]")
            .call("fsmount(7, FSMOUNT_CLOEXEC, 0)", Errno::EPERM)
            .step(7, 41)
            .hint("is the outer /proc masked?");
        assert_eq!(
            error.to_string(),
            "cannot mount \"proc\" at /proc (mounts[0]): fsmount(7, FSMOUNT_CLOEXEC, 0) = operation not permitted (EPERM) \
             [step 7 of 41 of the container's process]; hint: is the outer /proc masked?"
        );
    }

    #[test]
    fn what_is_quoted_is_fit_to_be_read() {
        let error = Error::new(Kind::Config, "the name \"a\nlevel=error \u{202e}\x1b[0m\" is é").at("x[\"\n\"]");
        assert_eq!(error.to_string(), "the name \"a\\nlevel=error \\u{202e}\\u{1b}[0m\" is é (x[\"\\n\"])");
        let long = Error::new(Kind::Config, format!("the path {}/end is too long", "é".repeat(10_000_000))).to_string();
        assert!(long.chars().count() < 400 && long.starts_with("the path é") && long.ends_with("/end is too long"), "{long}");
        let many = Error::new(Kind::Config, "is wrong; ".repeat(10_000)).to_string();
        assert!(many.len() < 2 * LONGEST && many.ends_with('…'));
        assert_eq!(Error::new(Kind::Usage, "no command\n\nusage: x").to_string(), "no command\n\nusage: x");
    }

    #[test]
    fn the_code_is_the_cause_or_else_what_the_kernel_says_or_else_the_sort() {
        let error = Error::new(Kind::Kernel, "cannot make the state").call("openat(3, \"x\")", Errno::ENOSPC);
        assert_eq!(error.code().name(), "E-NO-SPACE");
        assert_eq!(error.clone().cause(Code::Keyring).code().name(), "E-KEYRING");
        assert_eq!(error.cause(Code::Keyring).or_cause(Code::Busy).code(), Code::Keyring);
        let of = |errno| Error::new(Kind::Kernel, "x").call("f()", errno).code().name();
        let codes = [Errno::EROFS, Errno::EMFILE, Errno::ENFILE, Errno::EACCES, Errno::ENOSYS, Errno::ENOMEM, Errno::EIO].map(of);
        let wanted = ["E-READ-ONLY", "E-OPEN-FILES", "E-OPEN-FILES", "E-PERMISSION", "E-NO-SYSCALL", "E-NO-MEMORY", "E-KERNEL"];
        assert_eq!(codes, wanted);
        // What the kernel says of a program is the program's own business.
        assert_eq!(Error::new(Kind::Program, "x").call("f()", Errno::EMFILE).code(), Code::Program);
    }

    #[test]
    fn a_step_is_the_runtimes_unless_the_process_said_so_itself() {
        let error = Error::new(Kind::Hook, "x").of_step(3, 9, "hooks");
        assert_eq!(error.to_string(), "x (hooks) [step 3 of 9 of the runtime]");
        let told = Error::new(Kind::Config, "x").step(2, 5).of_step(3, 9, "");
        assert_eq!(told.to_string(), "x [step 2 of 5 of the container's process]");
    }

    #[test]
    fn advice_of_the_maker_comes_before_that_of_the_table() {
        let error = Error::new(Kind::Kernel, "x").call("f()", Errno::EMFILE);
        assert_eq!(error.advice(), Some(Code::OpenFiles.entry().hint));
        assert_eq!(error.hint("mine").advice(), Some("mine"));
        assert_eq!(Error::new(Kind::Config, "x").advice(), None);
    }

    #[test]
    fn errno_in_lower_case_as_clients_match_it() {
        assert_eq!(errno_text(Errno::ESRCH), "no such process");
        assert_eq!(errno_text(Errno::ENOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::EACCES), "permission denied");
        let error = Error::new(Kind::Kernel, "cannot signal init").call("pidfd_send_signal(3, 9)", Errno::ESRCH);
        assert!(error.to_string().ends_with("= no such process (ESRCH)"));
    }
}
