// SPDX-License-Identifier: Apache-2.0
//! The flags of `checkpoint` and `restore`, as typed requests.

use std::collections::BTreeMap;

use super::given::Given;
use super::request::absolute;
use crate::container::checkpoint::config_file;
use crate::error::{Error, Kind, Result};
use crate::plan::checkpoint::{CgroupMode, CheckpointRequest, Common, NetworkLock, RestoreRequest, page_server};

/// Where the image is when nobody says: runc's default.
const IMAGE_PATH: &str = "checkpoint";

/// A request to dump a container.
pub fn checkpoint(args: &Given, global: &Given) -> Result<CheckpointRequest> {
    let lazy = args.on("lazy-pages");
    let page_server = match args.text("page-server").filter(|text| !text.is_empty()) {
        None if lazy => return Err(usage("--lazy-pages: --page-server says where the pages can be asked for")),
        None => None,
        Some(text) => Some(page_server(text).ok_or_else(|| {
            let shown = text.escape_debug();
            usage(format!("--page-server: \"{shown}\" is not ADDRESS:PORT"))
        })?),
    };
    let status_fd = match args.text("status-fd") {
        None => None,
        // -1 is how Go's flags say that there is none.
        Some("-1") => None,
        Some(word) => Some(word.parse().ok().filter(|fd: &i32| *fd >= 0).ok_or_else(|| {
            let shown = word.escape_debug();
            usage(format!("--status-fd: \"{shown}\" is not the number of a descriptor"))
        })?),
    };
    Ok(CheckpointRequest {
        common: common(args, global)?,
        leave_running: args.on("leave-running"),
        pre_dump: args.on("pre-dump"),
        tcp_skip_in_flight: args.on("tcp-skip-in-flight"),
        page_server,
        status_fd,
    })
}

/// A request to restore one.
pub fn restore(args: &Given, global: &Given, annotations: &BTreeMap<String, String>) -> Result<RestoreRequest> {
    let given = |name: &str| args.text(name).filter(|text| !text.is_empty()).map(String::from);
    let mut common = common(args, global)?;
    common.config_file = config_file(annotations);
    let lsm_profile = given("lsm-profile");
    if let Some(wrong) = lsm_profile.as_deref().filter(|text| !text.starts_with("apparmor:") && !text.starts_with("selinux:")) {
        return Err(usage(format!("--lsm-profile: \"{}\" is not apparmor:PROFILE or selinux:LABEL", wrong.escape_debug())));
    }
    Ok(RestoreRequest { common, lsm_profile, lsm_mount_context: given("lsm-mount-context") })
}

fn common(args: &Given, global: &Given) -> Result<Common> {
    let given = |name: &str| args.text(name).filter(|text| !text.is_empty());
    let empty = args.all("empty-ns");
    if let Some(other) = empty.iter().find(|kind| kind.as_str() != "network") {
        return Err(usage(format!("--empty-ns: \"{}\" is not network", other.escape_debug())));
    }
    let cgroups = word(args, "manage-cgroups-mode", CgroupMode::parse, "soft, full, strict or ignore")?;
    Ok(Common {
        image_path: absolute(given("image-path").unwrap_or(IMAGE_PATH))?,
        work_path: given("work-path").map(absolute).transpose()?,
        parent_path: given("parent-path").map(String::from),
        tcp_established: args.on("tcp-established"),
        tcp_close: args.on("tcp-close"),
        ext_unix_sk: args.on("ext-unix-sk"),
        shell_job: args.on("shell-job"),
        file_locks: args.on("file-locks"),
        auto_dedup: args.on("auto-dedup"),
        lazy_pages: args.on("lazy-pages"),
        link_remap: args.on("link-remap"),
        cgroups,
        empty_network: !empty.is_empty(),
        network_lock: word(args, "network-lock", NetworkLock::parse, "iptables, nftables or skip")?,
        criu: global.text("criu").filter(|path| !path.is_empty()).map(String::from),
        config_file: None,
    })
}

/// A flag whose value is one of a few words.
fn word<T>(args: &Given, flag: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<Option<T>> {
    let given = args.text(flag).filter(|text| !text.is_empty());
    let wrong = |text: &str| usage(format!("--{flag}: \"{}\" is not {known}", text.escape_debug()));
    given.map(|text| parse(text).ok_or_else(|| wrong(text))).transpose()
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Kind::Usage, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Parsed, parse};

    fn asked(line: &str) -> Result<CheckpointRequest> {
        match parse("berth", line.split_whitespace().map(String::from).collect()) {
            Ok(Parsed::Run(invocation)) => checkpoint(&invocation.args, &invocation.global),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn flags_become_a_request() {
        let got = asked(
            "checkpoint --image-path /i --work-path /w --parent-path ../p --leave-running --leave-running --pre-dump \
             --tcp-established --page-server [::1]:9 --manage-cgroups-mode ignore --empty-ns network --status-fd 3 x",
        )
        .unwrap();
        assert_eq!((got.common.image_path.as_str(), got.common.work_path.as_deref()), ("/i", Some("/w")));
        assert_eq!(got.common.parent_path.as_deref(), Some("../p"));
        assert!(got.leave_running && got.pre_dump && got.common.tcp_established && got.common.empty_network);
        assert_eq!((got.page_server, got.status_fd), (Some(("::1".into(), 9)), Some(3)));
        assert_eq!(got.common.cgroups, Some(CgroupMode::Ignore));
        assert!(asked("checkpoint x").unwrap().common.image_path.ends_with("/checkpoint"));
    }

    #[test]
    fn a_profile_is_one_of_two_modules() {
        let asked = |line: &str| match parse("berth", line.split_whitespace().map(String::from).collect()) {
            Ok(Parsed::Run(invocation)) => restore(&invocation.args, &invocation.global, &BTreeMap::new()),
            _ => panic!("{line}"),
        };
        let got = asked("restore --lsm-profile=selinux:system_u:system_r:container_t:s0 x").unwrap();
        assert_eq!(got.lsm_profile.as_deref(), Some("selinux:system_u:system_r:container_t:s0"));
        let text = asked("restore --lsm-profile container_t x").unwrap_err().to_string();
        assert!(text.contains("--lsm-profile: \"container_t\" is not apparmor:PROFILE or selinux:LABEL"), "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("checkpoint --manage-cgroups-mode hard x", "--manage-cgroups-mode: \"hard\" is not soft"),
            ("checkpoint --empty-ns mount x", "--empty-ns: \"mount\" is not network"),
            ("checkpoint --page-server nowhere x", "--page-server: \"nowhere\" is not ADDRESS:PORT"),
            ("checkpoint --lazy-pages x", "--lazy-pages: --page-server says where"),
            ("checkpoint --status-fd a x", "--status-fd: \"a\" is not the number"),
            ("checkpoint --network-lock ebtables x", "--network-lock: \"ebtables\" is not iptables"),
        ] {
            let text = asked(line).unwrap_err().to_string();
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}
