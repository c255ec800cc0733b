// SPDX-License-Identifier: Apache-2.0
//! What is not the regular file that it should be: nothing waits for a writer, and nothing reads without end.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::{Bench, OWN_WORDS};
use crate::harness::bundle::folder;
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(as_config).differs(OWN_WORDS),
    test!(as_process_and_resources).differs(OWN_WORDS),
    test!(as_passwd_and_group).differs(OWN_WORDS),
    test!(as_bundle).differs(OWN_WORDS),
];

/// What may stand in a file's place; the path is free, and holds nothing afterwards but this.
type Stand = (&'static str, fn(&Path));

const STANDS: [Stand; 9] = [
    ("a FIFO", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a link to /dev/zero", |path| symlink("/dev/zero", path).unwrap()),
    ("a link to /dev/tty", |path| symlink("/dev/tty", path).unwrap()),
    ("a link to a directory", |path| symlink("/", path).unwrap()),
    ("a link to nothing", |path| symlink("/not/there", path).unwrap()),
    ("a link to itself", |path| symlink(path, path).unwrap()),
    ("a file of 1 TiB", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
];

fn clear(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}

fn as_config() {
    let mut bench = Bench::new();
    let path = bench.bundle.dir.join("config.json");
    for (what, make) in STANDS {
        clear(&path);
        make(&path);
        bench.creates_nothing(&format!("{what} as config.json"), &["config.json"]);
    }
    clear(&path);
    bench.finish(9);
}

fn as_process_and_resources() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    let path = folder().join("stand");
    let text = path.to_str().unwrap();
    for (what, make) in STANDS {
        clear(&path);
        make(&path);
        let call = Call::new(&["exec", "--process", text, &container.id]);
        bench.judge(&format!("{what} as the process file"), call, &["process file", text]);
        bench.judge(&format!("{what} as the resources"), Call::new(&["update", "--resources", text, &container.id]), &[text]);
    }
    clear(&path);
    bench.finish(18);
}

/// HOME comes from the image's passwd: what is absurd there is as good as nothing, and never waited for.
fn as_passwd_and_group() {
    let bundle = Bundle::sh("echo home $HOME");
    for (what, make) in STANDS {
        for file in ["/etc/passwd", "/etc/group"] {
            let path = bundle.inside(file);
            clear(&path);
            make(&path);
            assert_eq!(bundle.print(), "home /\n", "{what} as {file}");
        }
    }
    let most = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(most < 64 << 10, "a call had {most} KiB of memory");
    clear(&bundle.inside("/etc/passwd"));
    fs::write(bundle.inside("/etc/passwd"), format!("{}\nroot:x:0:0::/late:\n", "x".repeat(2 << 20))).unwrap();
    assert_eq!(bundle.print(), "home /\n", "a passwd of 2 MiB");
    fs::write(bundle.inside("/etc/passwd"), "root:x:0:0::/a\nb:\nHOME=/c:x:0:0::/d:\n").unwrap();
    assert_eq!(bundle.print(), "home /a\n", "a line break in a field ends the line");
}

fn as_bundle() {
    let mut bench = Bench::new();
    let path = folder().join("stand");
    for (what, make) in STANDS {
        clear(&path);
        make(&path);
        let call = Call::new(&["create", "--bundle", path.to_str().unwrap(), &bench.bundle.id]);
        let word = if what == "a directory" || what == "a link to a directory" { "config.json" } else { "stand" };
        bench.fails(&format!("{what} as the bundle"), call, &[word]);
    }
    clear(&path);
    bench.bundle.set("/process/terminal", json!(false));
    bench.finish(9);
}
