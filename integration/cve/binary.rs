// SPDX-License-Identifier: Apache-2.0
//! The runtime's own binary: no process that a container sees leads to a file of the host that could be written to.

use std::fs;

use serde_json::{Value, json};

use super::attempt;
use crate::harness::bundle::folder;
use crate::harness::call::runtime;
use crate::harness::look::eventually;
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2019_5736_first_process),
    test!(cve_2019_5736_program_is_the_runtime),
    test!(cve_2019_5736_process_of_an_exec).seconds(120),
];

/// All that root in a container may have without a user namespace.
fn all_capabilities() -> Value {
    let caps = json!(["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_ADMIN"]);
    json!({ "bounding": caps, "effective": caps, "permitted": caps })
}

/// A copy of the runtime that may be spoilt, and what it held before.
struct Copy {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Copy {
    fn make() -> Copy {
        let path = folder().join("runtime");
        fs::copy(runtime(), &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        Copy { path, bytes }
    }

    /// `RUNTIME ARGUMENTS…` by this copy.
    fn call(&self, arguments: &[&str]) -> Call {
        let root = crate::harness::bundle::state_root();
        Call::program(&[&[self.path.to_str().unwrap(), "--root", root.to_str().unwrap()], arguments].concat())
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        assert!(fs::read(&self.path).unwrap() == self.bytes, "the runtime's binary was overwritten from a container");
    }
}

/// Writes to it as soon as nobody runs it any more.
const HOLD_AND_WRITE: &str = r#"
spoil() {
    for n in 1 2 3 4 5 6 7 8 9 10; do
        (echo spoilt >/proc/self/fd/9) 2>/dev/null && { echo written; break; }
        usleep 20000
    done
}
"#;

/// The first process waits for its start: until then its executable is the runtime.
fn cve_2019_5736_first_process() {
    let copy = Copy::make();
    let mut bundle = Bundle::args(&["/bin/sh", "-c", "exec sleep 1000"]);
    bundle.set("/process/capabilities", all_capabilities());
    bundle.save();
    let container = bundle.container();
    bundle.output_of(copy.call(&["create", "--bundle", bundle.path(), &bundle.id])).ok();
    let script = format!(
        "{HOLD_AND_WRITE}\n{{ touch /held; while [ ! -e /started ]; do usleep 1000; done; spoil; }} 9</proc/1/exe; echo end"
    );
    let (out, err) = (folder().join("out"), folder().join("err"));
    let mut spy = copy.call(&["exec", &container.id, "/bin/sh", "-c", &script]).spawn_to(&out, &err);
    eventually("the container holds on to the executable", || bundle.inside("/held").exists());
    container.start();
    fs::write(bundle.inside("/started"), "").unwrap();
    crate::harness::call::wait(&mut spy);
    let said = fs::read_to_string(&out).unwrap();
    assert!(said.ends_with("end\n") && !said.contains("written"), "{said}");
    copy.assert_unchanged();
    // The test itself works: what is held by a name of the host can be written to.
    assert!(fs::File::options().write(true).open(&copy.path).is_ok());
}

/// The image's program is a link to the runtime's own executable: it runs once more, inside, with the container's libraries if it had any.
fn cve_2019_5736_program_is_the_runtime() {
    let copy = Copy::make();
    for args in [json!(["/proc/self/exe", "--version"]), json!(["/link", "--version"]), json!(["/proc/self/exe", "list"])] {
        let mut bundle = Bundle::new();
        std::os::unix::fs::symlink("/proc/self/exe", bundle.inside("/link")).unwrap();
        bundle.set("/process/args", args).set("/process/capabilities", all_capabilities());
        bundle.save();
        bundle.output_of(copy.call(&["run", "--bundle", bundle.path(), &bundle.id]));
        Call::new(&["delete", "--force", &bundle.id]).output();
        copy.assert_unchanged();
    }
    // An interpreter line has the same effect.
    let mut bundle = Bundle::args(&["/script"]);
    fs::write(bundle.inside("/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(bundle.inside("/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/capabilities", all_capabilities());
    attempt(&bundle);
    copy.assert_unchanged();
}

/// The container lies in wait for a process that joins it.
fn cve_2019_5736_process_of_an_exec() {
    let copy = Copy::make();
    let script = format!(
        "{HOLD_AND_WRITE}\necho ready\nwhile [ ! -e /stop ]; do for p in /proc/[0-9]*; do\n\
         case $(readlink $p/exe) in */busybox|'') ;; *) ( {{ echo held; spoil; }} 9<$p/exe );; esac\ndone; done 2>/dev/null; echo end"
    );
    let mut bundle = Bundle::sh(&script);
    bundle.set("/process/capabilities", all_capabilities());
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    for _ in 0..30 {
        copy.call(&["exec", &container.id, "/bin/true"]).output().ok();
    }
    // It does not have to be found by chance: a program that is the runtime stays.
    copy.call(&["exec", &container.id, "/proc/self/exe", "--version"]).output();
    fs::write(bundle.inside("/stop"), "").unwrap();
    let said = container.wait_stdout("end\n");
    assert!(!said.contains("written"), "{said}");
    copy.assert_unchanged();
}
