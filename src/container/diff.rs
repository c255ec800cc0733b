// SPDX-License-Identifier: Apache-2.0
//! `plan --diff`: what was asked of a running container ([`crate::plan::expect`]) beside what the kernel has of it now. Nothing is changed.

use std::os::fd::OwnedFd;

use super::bundle::{self, Bundle};
use super::state::{State, Status};
use super::store::Store;
use super::{host, init_process};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd::{self, Root};
use crate::linux::proc::{self, MountInfo};
use crate::linux::types::Namespaces;
use crate::linux::{bpf, clone, sched};
use crate::plan::expect::{self, Expected, HOSTS, MASKED, OWN, READ_ONLY, Subject, THERE};
use crate::plan::resources::Tree;
use crate::plan::{CgroupManager, Id, Plan, Request};
use crate::process::inside;
use crate::spec::load;

/// The largest file that is read here.
const SMALL: usize = 1 << 20;

/// One thing that was asked, and what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Of what.
    pub what: String,
    /// What was asked.
    pub asked: String,
    /// What the kernel has; none where it cannot be seen by this user.
    pub now: Option<String>,
    /// The field that asked for it; empty where none did.
    pub at: String,
    /// Whether it is what was asked; so it is, where it cannot be seen.
    pub same: bool,
}

/// Compares a container with the configuration that it was made from, or with that of a bundle. `runtime_dir` is XDG_RUNTIME_DIR.
pub fn diff(store: &Store, id: &Id, bundle: Option<&str>, runtime_dir: Option<String>) -> Result<Vec<Compared>> {
    let entry = store.get(id)?;
    let state = entry.load()?;
    let status = entry.status(&state)?;
    let process = match status {
        Status::Created | Status::Running | Status::Paused => init_process::open(&state)?,
        _ => None,
    };
    let Some(process) = process else {
        return Err(Error::new(Kind::Status, "container not running").hint(format!("{id} is {}", status.name())));
    };
    let bundle = match bundle {
        Some(dir) => bundle::read(dir)?,
        None => saved(entry.config()?, &state)?,
    };
    let mut request = Request::create(id.clone(), &state.bundle, store.path());
    request.notify_socket = state.notify_socket.clone();
    request.cgroup_manager = match (&state.cgroup.unit, &state.cgroup.v2, &state.cgroup.v1[..]) {
        (Some(_), ..) => CgroupManager::Systemd,
        (None, None, []) => CgroupManager::Disabled,
        _ => CgroupManager::Cgroupfs,
    };
    if bundle.spec.process.as_deref().is_some_and(|process| process.terminal) {
        request.console_socket = Some("CONSOLE-SOCKET".to_string());
    }
    let mut plan = bundle::plan(&bundle, &request, &host::probe_for(&bundle.spec, &request, runtime_dir))?;
    // Where it went, which may depend on who made it.
    plan.cgroup.saved = state.cgroup.clone();
    compare(&plan, &state, &process, status != Status::Created)
}

fn saved(bytes: Vec<u8>, state: &State) -> Result<Bundle> {
    let spec = load::parse_config(&bytes).map_err(|problems| bundle::refused("saved config.json", problems))?;
    Ok(Bundle { bytes, spec, rootfs: state.rootfs.clone(), warnings: Vec::new() })
}

fn compare(plan: &Plan, state: &State, process: &OwnedFd, running: bool) -> Result<Vec<Compared>> {
    let all: Vec<Expected> = expect::expected(plan).into_iter().filter(|one| running || !one.running).collect();
    let look = Look::new(state, process, &all)?;
    let compared = all.iter().map(|one| {
        let now = look.at(&one.subject, &one.asked);
        Compared {
            what: one.subject.name(),
            asked: one.asked.clone(),
            same: now.as_deref().is_none_or(|now| expect::agrees(one, now)),
            now,
            at: one.at.clone(),
        }
    });
    Ok(compared.collect())
}

/// What is read once.
struct Look<'a> {
    state: &'a State,
    pid: i32,
    status: String,
    limits: Vec<String>,
    mounts: Vec<MountInfo>,
    /// The container's root directory.
    root: Option<Root>,
    /// Kernel parameters as the container's namespaces have them.
    parameters: Vec<(String, Option<String>)>,
}

impl Look<'_> {
    fn new<'a>(state: &'a State, process: &OwnedFd, all: &[Expected]) -> Result<Look<'a>> {
        let pid = state.init_process_pid;
        let keys: Vec<String> =
            all.iter().filter_map(|one| if let Subject::Sysctl(key) = &one.subject { Some(key.clone()) } else { None }).collect();
        let paths: Vec<String> = keys.iter().map(|key| parameter(key)).collect();
        let others = [Namespaces::USER, Namespaces::NET, Namespaces::IPC, Namespaces::UTS].into_iter();
        let kinds = others.filter(|kind| !is_ours(pid, *kind)).fold(Namespaces::empty(), |all, kind| all | kind);
        let values = if paths.is_empty() { Vec::new() } else { inside::read(process, kinds, &paths)? };
        Ok(Look {
            state,
            pid,
            status: text(&format!("/proc/{pid}/status")).unwrap_or_default(),
            limits: text(&format!("/proc/{pid}/limits")).unwrap_or_default().lines().skip(1).map(String::from).collect(),
            mounts: proc::mountinfo_of(pid).told(|| format!("cannot read the mounts of process {pid}"))?,
            root: Root::open(format!("/proc/{pid}/root")).ok(),
            parameters: keys.into_iter().zip(values).collect(),
        })
    }

    /// What the kernel has; none where that cannot be seen.
    fn at(&self, subject: &Subject, asked: &str) -> Option<String> {
        match subject {
            Subject::Cgroup => {
                let lines = proc::cgroups(self.pid).ok()?;
                lines.into_iter().find(|line| line.controllers.is_empty()).map(|line| line.path)
            }
            Subject::CgroupFile { tree, controller, file } => self.cgroup_file(*tree, controller, file),
            Subject::DeviceFilter => {
                let dir = self.state.cgroup.v2.as_ref()?;
                let dir = fd::open_dir(format!("{}{}", dir.mount, dir.path)).ok()?;
                bpf::query(&dir).ok().map(|filters| filters.len().to_string())
            }
            Subject::Namespace(kind) => self.namespace(*kind, asked),
            Subject::IdMap(file) => self.lines(file),
            Subject::TimeOffsets => self.lines("timens_offsets"),
            Subject::Mount(path) => Some(match self.mount_at(path)? {
                Some(mount) => format!("{} {}", mount.fstype, mount.options),
                None => "nothing".into(),
            }),
            Subject::Masked(path) => self.hidden(path),
            Subject::ReadOnly(path) => self.read_only(path),
            Subject::Device(path) => self.device(path),
            Subject::Status(name) => {
                let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
                Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            Subject::Rlimit { resource, .. } => limit(self.limits.get(*resource as usize)?),
            Subject::OomScoreAdj => self.word("oom_score_adj"),
            Subject::Personality => self.word("personality"),
            Subject::Scheduler => self.scheduler(),
            Subject::IoPriority => sched::io_priority(self.pid).ok().map(|(class, level)| format!("{class} {level}")),
            Subject::MemoryPolicy => self.memory_policy(),
            Subject::Propagation(path) => Some(match self.mount_at(path)? {
                Some(mount) => propagation(&mount.propagation),
                None => "nothing".into(),
            }),
            Subject::NetDevice(name) => self.net_device(name),
            Subject::ResctrlGroup => self.of_process("cpu_resctrl_groups").and_then(|text| {
                let group = text.lines().find_map(|line| line.strip_prefix("res:"))?;
                Some(group.to_string())
            }),
            Subject::Schemata => {
                let saved = self.state.resctrl.as_ref()?;
                let group = saved.group.trim_start_matches('/');
                let file = text(&format!("{}/{group}/schemata", saved.mount))?;
                Some(file.lines().map(str::trim).collect::<Vec<_>>().join(", "))
            }
            Subject::Sysctl(key) => self.parameters.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.clone()),
            Subject::Apparmor => self.word("attr/apparmor/current").or_else(|| self.word("attr/current")),
            Subject::Selinux => self.word("attr/current"),
        }
    }

    fn of_process(&self, file: &str) -> Option<String> {
        text(&format!("/proc/{}/{file}", self.pid))
    }

    fn word(&self, file: &str) -> Option<String> {
        self.of_process(file).map(|text| text.trim_end_matches(['\0', '\n']).to_string())
    }

    /// The lines of a file, each with single spaces, as one line.
    fn lines(&self, file: &str) -> Option<String> {
        let text = self.of_process(file)?;
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Some(lines.join(", "))
    }

    fn cgroup_file(&self, tree: Tree, controller: &str, file: &str) -> Option<String> {
        let saved = &self.state.cgroup;
        let dir = match tree {
            Tree::V2 => saved.v2.as_ref(),
            Tree::V1 => saved.v1.iter().find(|dir| dir.controllers.iter().any(|name| name == controller)),
        }?;
        // What can only be written (devices.allow) cannot be compared.
        text(&format!("{}{}/{file}", dir.mount, dir.path)).map(|text| text.trim_end().to_string())
    }

    fn namespace(&self, kind: Namespaces, asked: &str) -> Option<String> {
        let theirs = namespace_of(&self.pid.to_string(), kind)?;
        let is = |stat: Option<fd::Stat>| stat.is_some_and(|stat| stat.same_file(&theirs));
        if is(namespace_of("self", kind)) {
            return Some(HOSTS.into());
        }
        match asked {
            OWN | HOSTS => Some(OWN.into()),
            path if is(fd::stat_path(path).ok()) => Some(path.into()),
            // The process that it was named by may have ended since.
            path if !fd::exists(path) => None,
            _ => Some("another".into()),
        }
    }

    /// The mount at a path of the container, as the container resolves it; none inside where there is no mount.
    fn mount_at(&self, path: &str) -> Option<Option<&MountInfo>> {
        let found = self.root.as_ref()?.find(path, true).ok()?;
        let Some(found) = found else { return Some(None) };
        let stat = fd::stat(&found).ok()?;
        let id = stat.mount_id.filter(|_| stat.mount_root);
        Some(id.and_then(|id| self.mounts.iter().find(|mount| mount.id == id)))
    }

    /// A path that is not there needs no mask.
    fn hidden(&self, path: &str) -> Option<String> {
        if self.root.as_ref()?.find(path, true).ok()?.is_none() {
            return Some(MASKED.into());
        }
        Some(if self.mount_at(path)?.is_some() { MASKED.into() } else { "visible".into() })
    }

    fn read_only(&self, path: &str) -> Option<String> {
        let Some(found) = self.root.as_ref()?.find(path, true).ok()? else { return Some(READ_ONLY.into()) };
        let id = fd::stat(&found).ok()?.mount_id?;
        let mount = self.mounts.iter().find(|mount| mount.id == id)?;
        Some(if mount.options.split(',').any(|option| option == "ro") { READ_ONLY.into() } else { "writable".into() })
    }

    fn device(&self, path: &str) -> Option<String> {
        let Some(found) = self.root.as_ref()?.find(path, true).ok()? else { return Some("nothing".into()) };
        let stat = fd::stat(&found).ok()?;
        let kind = match stat.kind() {
            libc::S_IFCHR => 'c',
            libc::S_IFBLK => 'b',
            libc::S_IFIFO => 'p',
            _ => return Some("no device".into()),
        };
        Some(format!("{kind} {}:{} {:04o}", stat.rdev.major, stat.rdev.minor, stat.mode & 0o7777))
    }

    /// Of the first place in its memory: one without a policy of its own shows the process's.
    fn memory_policy(&self) -> Option<String> {
        let maps = self.of_process("numa_maps")?;
        let (_, rest) = maps.lines().next()?.split_once(' ')?;
        // The word before the counts; `prefer (many)` has a blank.
        let end =
            rest.find(" file=").or_else(|| rest.find(" anon=")).or_else(|| rest.find(" stack")).or_else(|| rest.find(" heap"));
        Some(rest[..end.unwrap_or(rest.len())].split(" N").next()?.trim().to_string())
    }

    fn net_device(&self, name: &str) -> Option<String> {
        let devices = self.of_process("net/dev")?;
        // `eth%d`: the kernel has chosen the number.
        let named = |device: &str| match name.split_once("%d") {
            Some((before, after)) => {
                let number = device.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                number.is_some_and(|number| number.parse::<u32>().is_ok())
            }
            None => device == name,
        };
        let is = |line: &str| line.split_once(':').is_some_and(|(device, _)| named(device.trim()));
        Some(if devices.lines().any(is) { THERE.into() } else { "not there".into() })
    }

    /// Policy and nice value: fields 41 and 19 of proc_pid_stat(5), counted after the name, which may have spaces.
    fn scheduler(&self) -> Option<String> {
        let stat = self.of_process("stat")?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        Some(format!("{} {}", fields.get(38)?, fields.get(16)?))
    }
}

fn text(path: &str) -> Option<String> {
    let bytes = fd::read_file_bounded(path, SMALL).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn namespace_of(pid: &str, kind: Namespaces) -> Option<fd::Stat> {
    fd::stat_path(format!("/proc/{pid}/ns/{}", clone::namespace_file(kind))).ok()
}

fn is_ours(pid: i32, kind: Namespaces) -> bool {
    match (namespace_of(&pid.to_string(), kind), namespace_of("self", kind)) {
        (Some(theirs), Some(ours)) => theirs.same_file(&ours),
        _ => true,
    }
}

/// The file of a kernel parameter: dots separate, unless a slash comes first; sysctl(8).
fn parameter(key: &str) -> String {
    let slash = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('/'));
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slash { key.into() } else { key.chars().map(swap).collect() };
    format!("/proc/sys/{path}")
}

/// `shared,slave`, from the optional fields of mountinfo.
fn propagation(fields: &[String]) -> String {
    let names = [("shared:", "shared"), ("master:", "slave"), ("unbindable", "unbindable")];
    let has = |prefix: &str| fields.iter().any(|field| field.starts_with(prefix));
    let words: Vec<&str> = names.iter().filter(|(prefix, _)| has(prefix)).map(|(_, name)| *name).collect();
    if words.is_empty() { "private".into() } else { words.join(",") }
}

/// Soft and hard limit of a line of /proc/PID/limits, whose columns are 26 and 21 wide.
fn limit(line: &str) -> Option<String> {
    let mut words = line.get(26..)?.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_limits_have_two_columns() {
        assert_eq!(
            limit("Max open files            1024                 524288               files     "),
            Some("1024 524288".into())
        );
        assert_eq!(
            limit("Max cpu time              unlimited            unlimited            seconds   "),
            Some("unlimited unlimited".into())
        );
        assert_eq!(limit("Max"), None);
    }

    #[test]
    fn parameters_are_files() {
        assert_eq!(parameter("net.ipv4.conf.eth0/1.forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(parameter("net/ipv4/conf/eth0.1/forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }
}
