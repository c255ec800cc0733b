// SPDX-License-Identifier: Apache-2.0
//! bpf(2) for the device programs of cgroup2: load, attach, query, keep. Used by `cgroup`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::call::{self, Call, CallError, Result, retry, syscall};
use super::types::{BpfInsn, Errno};

const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_DETACH: u32 = 9;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_PROG_QUERY: u32 = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// The part of union bpf_attr for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    pad: u32,
}

/// The part for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// The part for BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
#[derive(Default)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// bpf(2) with one of the structs above.
fn bpf<T>(command: u32, attribute: &mut T) -> nix::Result<i64> {
    // SAFETY: `attribute` is the part of union bpf_attr for this command, of the size given; what it points to is kept alive by the
    // caller. A kernel that knows a shorter union takes a longer one as long as the rest is zero.
    retry(|| unsafe { syscall!(libc::SYS_bpf, command, &raw mut *attribute, size_of::<T>()) })
}

fn new_fd(raw: i64) -> OwnedFd {
    // SAFETY: the kernel just gave us this new descriptor; bpf(2) makes all of them close-on-exec.
    unsafe { OwnedFd::from_raw_fd(raw as RawFd) }
}

/// BPF_PROG_LOAD of a device program under the name `name` (at most 15 letters, digits, `_` and `.`). Where the verifier refuses it, the
/// end of what it says is in the error.
pub fn load_device_program(name: &str, program: &[BpfInsn]) -> Result<OwnedFd> {
    let mut attribute = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64, // The program calls no helper that asks for another.
        ..Load::default()
    };
    for (to, from) in attribute.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let render = || format!("bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={}}})", program.len());
    let errno = match bpf(BPF_PROG_LOAD, &mut attribute) {
        Ok(fd) => return Ok(new_fd(fd)),
        Err(errno @ (Errno::EINVAL | Errno::EACCES)) => errno,
        Err(errno) => return Err(errno).call(render),
    };
    // Once more, to hear why.
    let mut log = vec![0u8; 64 << 10];
    (attribute.log_level, attribute.log_size, attribute.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    match bpf(BPF_PROG_LOAD, &mut attribute) {
        Ok(fd) => Ok(new_fd(fd)),
        Err(_) => Err(CallError::new(format!("{}{}", render(), verifier_says(&log)), errno)),
    }
}

/// The last lines of the verifier's log, on one.
fn verifier_says(log: &[u8]) -> String {
    const LINES: usize = 4;
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let mut lines: Vec<&str> =
        text.lines().rev().filter(|line| !line.is_empty() && !line.starts_with("processed ")).take(LINES).collect();
    lines.reverse();
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ").escape_debug()) }
}

/// BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI: the program decides for this cgroup and all below, together with those of outer cgroups. In
/// place of `replaces` (one attached to this cgroup itself) without a moment between, where given.
pub fn attach(cgroup: impl AsFd, program: impl AsFd, replaces: Option<&OwnedFd>) -> Result<()> {
    let flags = BPF_F_ALLOW_MULTI | if replaces.is_some() { BPF_F_REPLACE } else { 0 };
    let mut attribute = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replaces.map_or(0, |fd| fd.as_raw_fd() as u32),
        pad: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attribute).call(|| {
        let flags = if replaces.is_some() { "BPF_F_ALLOW_MULTI|BPF_F_REPLACE" } else { "BPF_F_ALLOW_MULTI" };
        format!("bpf(BPF_PROG_ATTACH, {{{}, BPF_CGROUP_DEVICE, {flags}}})", call::fd(cgroup.as_fd()))
    })?;
    Ok(())
}

/// BPF_PROG_DETACH of a program that is attached to this cgroup itself.
pub fn detach(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attribute = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(BPF_PROG_DETACH, &mut attribute)
        .call(|| format!("bpf(BPF_PROG_DETACH, {{{}, BPF_CGROUP_DEVICE}})", call::fd(cgroup.as_fd())))?;
    Ok(())
}

/// BPF_PROG_QUERY: the ids of the device programs attached to this cgroup itself.
pub fn query(cgroup: impl AsFd) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    loop {
        let mut attribute = Query {
            target_fd: cgroup.as_fd().as_raw_fd() as u32,
            attach_type: BPF_CGROUP_DEVICE,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: ids.len() as u32,
            ..Query::default()
        };
        match bpf(BPF_PROG_QUERY, &mut attribute) {
            Ok(_) => {
                ids.truncate(attribute.prog_cnt as usize);
                return Ok(ids);
            }
            Err(Errno::ENOSPC) if ids.len() < 1 << 16 => ids.resize(ids.len() * 4, 0),
            Err(errno) => {
                return Err(errno).call(|| format!("bpf(BPF_PROG_QUERY, {{{}, BPF_CGROUP_DEVICE}})", call::fd(cgroup.as_fd())));
            }
        }
    }
}

/// BPF_PROG_GET_FD_BY_ID; needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attribute = [id, 0, 0, 0];
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attribute).map(new_fd).call(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {{{id}}})"))
}

/// What the kernel tells of a program: struct bpf_prog_info up to `btf_id` and what fills it up to eight bytes. The kernel takes and gives
/// as much of it as the caller knows.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    instructions_len: u32,
    jited: u64,
    instructions: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    gpl_compatible: u32,
    netns_dev: u64,
    netns_ino: u64,
    symbol_count: u32,
    function_count: u32,
    symbols: u64,
    function_lens: u64,
    btf_id: u32,
    function_info_size: u32,
}

impl ProgramInfo {
    fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// BPF_OBJ_GET_INFO_BY_FD, and as many of the program's instructions as there is room for.
fn info(program: impl AsFd, room: &mut [BpfInsn]) -> Result<ProgramInfo> {
    let mut info = ProgramInfo {
        instructions_len: size_of_val(room) as u32,
        instructions: if room.is_empty() { 0 } else { room.as_mut_ptr() as u64 },
        ..ProgramInfo::default()
    };
    let mut attribute = Info {
        bpf_fd: program.as_fd().as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute).call(|| format!("bpf(BPF_OBJ_GET_INFO_BY_FD, {{{}}})", attribute.bpf_fd))?;
    Ok(info)
}

/// The name that a program was loaded under, and its id.
pub fn name_and_id(program: impl AsFd) -> Result<(String, u32)> {
    let info = info(program, &mut [])?;
    Ok((String::from_utf8_lossy(info.name()).into_owned(), info.id))
}

/// Whether this is what [`load_device_program`] makes of `name` and `instructions`, by the kernel's own copy of them, which nobody can
/// change. Not with a BTF: only what has one can get other code later (BPF_PROG_TYPE_EXT). False as well where the kernel has rewritten
/// the program (net.core.bpf_jit_harden=2), or does not show it to this user.
pub fn is_device_program(program: impl AsFd, name: &str, instructions: &[BpfInsn]) -> bool {
    let mut found = vec![BpfInsn { code: 0, regs: 0, off: 0, imm: 0 }; instructions.len()];
    info(program, &mut found).is_ok_and(|info| {
        let of_ours = info.kind == BPF_PROG_TYPE_CGROUP_DEVICE && info.name() == name.as_bytes() && info.btf_id == 0;
        // Null: kept back.
        let told = info.instructions != 0 && info.instructions_len as usize == size_of_val(instructions);
        of_ours && told && found == instructions
    })
}

/// BPF_OBJ_PIN: keeps a program under a path of a bpffs.
pub fn pin(program: impl AsFd, path: impl AsRef<OsStr>) -> Result<()> {
    let path = path.as_ref();
    let c_path = call::c_path(path, "bpf")?;
    let bpf_fd = program.as_fd().as_raw_fd() as u32;
    let mut attribute = Object { pathname: c_path.as_ptr() as u64, bpf_fd, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attribute).call(|| format!("bpf(BPF_OBJ_PIN, {{{}, {bpf_fd}}})", call::text(path)))?;
    Ok(())
}

/// BPF_OBJ_GET: the program kept under a path of a bpffs. Whoever asks can do without one: no message is made of a failure.
pub fn pinned(path: impl AsRef<OsStr>) -> std::result::Result<OwnedFd, Errno> {
    let path = call::c_path(path.as_ref(), "bpf").map_err(|error| error.errno)?;
    let mut attribute = Object { pathname: path.as_ptr() as u64, ..Object::default() };
    bpf(BPF_OBJ_GET, &mut attribute).map(new_fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::unshare;
    use crate::linux::fd::{self, OFlag, tests::Scratch};
    use crate::linux::mount::{move_mount, new_mount, set_propagation};
    use crate::linux::test_child::{in_child, is_root};
    use crate::linux::types::{Namespaces, Propagation};

    /// `r0 = verdict; exit`
    fn constant(verdict: i32) -> [BpfInsn; 2] {
        [BpfInsn { code: 0xb7, regs: 0, off: 0, imm: verdict }, BpfInsn { code: 0x95, regs: 0, off: 0, imm: 0 }]
    }

    /// Runs `test` with a new cgroup below the root of cgroup2, removed afterwards; prints why where there is none.
    fn with_cgroup(name: &str, test: impl FnOnce(&OwnedFd)) {
        let root = match new_mount("cgroup2", [], 0) {
            Ok(root) => root,
            Err(error) => return eprintln!("skipped: no cgroup2 here: {error}"),
        };
        let name = format!("berth-test-{name}-{}", std::process::id());
        fd::mkdirat(&root, &name, 0o755).unwrap();
        let cgroup = fd::openat(&root, &name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&cgroup)));
        fd::rmdirat(&root, &name).unwrap();
        outcome.unwrap();
    }

    #[test]
    fn device_programs_of_a_cgroup() {
        with_cgroup("bpf", |cgroup| {
            assert_eq!(query(cgroup).unwrap().len(), 0);
            let allow = load_device_program("berth_test", &constant(1)).unwrap();
            let deny = load_device_program("berth_test", &constant(0)).unwrap();
            attach(cgroup, &allow, None).unwrap();
            let first = query(cgroup).unwrap();
            assert_eq!(first.len(), 1);
            let again = program_by_id(first[0]).unwrap();
            assert_eq!(name_and_id(&again).unwrap(), ("berth_test".to_string(), first[0]));
            assert_eq!(attach(cgroup, &allow, None).unwrap_err().errno, Errno::EINVAL);
            attach(cgroup, &deny, Some(&again)).unwrap();
            let second = query(cgroup).unwrap();
            assert!(second.len() == 1 && second != first);
            in_child(|| {
                fd::write_at(cgroup, "cgroup.procs", b"0").unwrap();
                assert_eq!(fd::open("/dev/null", OFlag::O_RDONLY).unwrap_err().errno, Errno::EPERM);
            });
            assert_eq!(detach(cgroup, &allow).unwrap_err().errno, Errno::ENOENT);
            detach(cgroup, &deny).unwrap();
            assert_eq!(query(cgroup).unwrap().len(), 0);
        });
    }

    #[test]
    fn the_verifier_is_quoted() {
        if !is_root() {
            return;
        }
        let error = load_device_program("berth_test", &constant(1)[..1]).unwrap_err();
        assert!(error.errno == Errno::EINVAL && error.call.contains("insn_cnt=1}): "), "{error}");
        let scratch = Scratch::new();
        let error = query(scratch.dir()).unwrap_err();
        assert!(error.errno == Errno::EBADF && error.call.starts_with("bpf(BPF_PROG_QUERY, {"), "{error}");
    }

    #[test]
    fn pins() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new();
        in_child(|| {
            unshare(Namespaces::MOUNT).unwrap();
            set_propagation("/", Propagation::Private, true).unwrap();
            move_mount(new_mount("bpf", [], 0).unwrap(), scratch.dir()).unwrap();
            let path = scratch.path().join("devices");
            assert_eq!(pinned(&path).unwrap_err(), Errno::ENOENT);
            pin(load_device_program("berth_test", &constant(1)).unwrap(), &path).unwrap();
            let kept = pinned(&path).unwrap();
            assert!(is_device_program(&kept, "berth_test", &constant(1)));
            assert!(!is_device_program(&kept, "berth_test", &constant(0)));
            assert!(!is_device_program(&kept, "berth_test", &constant(1)[..1]));
            assert!(!is_device_program(&kept, "berth_test", &[constant(1), constant(1)].concat()));
            assert!(!is_device_program(&kept, "berth_tes", &constant(1)));
            assert!(!is_device_program(scratch.dir(), "berth_test", &constant(1)));
        });
    }

    /// A program with the same name and instructions, as somebody would load it who means to give it other code later.
    #[test]
    fn a_program_that_can_be_extended_is_not_ours() {
        if !is_root() {
            return;
        }
        let btf = load_btf();
        #[repr(C)]
        #[derive(Default)]
        struct LoadWithBtf {
            load: Load,
            ifindex: u32,
            expected_attach_type: u32,
            btf_fd: u32,
            func_info_rec_size: u32,
            func_info: u64,
            func_info_cnt: u32,
            pad: u32,
        }
        let (program, function) = (constant(1), [0u32, 3]);
        let mut attribute = LoadWithBtf {
            load: Load {
                prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
                insn_cnt: 2,
                insns: program.as_ptr() as u64,
                license: c"GPL".as_ptr() as u64,
                prog_name: *b"berth_test\0\0\0\0\0\0",
                ..Load::default()
            },
            expected_attach_type: BPF_CGROUP_DEVICE,
            btf_fd: btf.as_raw_fd() as u32,
            func_info_rec_size: 8,
            func_info: function.as_ptr() as u64,
            func_info_cnt: 1,
            ..LoadWithBtf::default()
        };
        let loaded = bpf(BPF_PROG_LOAD, &mut attribute).map(new_fd).unwrap();
        assert_eq!(name_and_id(&loaded).unwrap().0, "berth_test");
        assert!(!is_device_program(&loaded, "berth_test", &program));
    }

    /// BPF_BTF_LOAD of `int f(void *)`.
    fn load_btf() -> OwnedFd {
        const BPF_BTF_LOAD: u32 = 18;
        const STRINGS: &[u8] = b"\0int\0f\0c\0";
        // 1: int. 2: a function that returns it and takes c, a 4. 3: f, one such that is global. 4: void *. Names by their offsets.
        let types: &[u32] =
            &[&[1, 1 << 24, 4, 1 << 24 | 32][..], &[0, 13 << 24 | 1, 1, 7, 4], &[5, 12 << 24 | 1, 2], &[0, 2 << 24, 0]].concat();
        let header: &[u32] =
            &[1 << 16 | 0xeb9f, 24, 0, size_of_val(types) as u32, size_of_val(types) as u32, STRINGS.len() as u32];
        let mut data: Vec<u8> = header.iter().chain(types).flat_map(|word| word.to_ne_bytes()).collect();
        data.extend(STRINGS);
        // btf, its log, the sizes of both, and the log's level.
        let address = data.as_ptr() as u64;
        let mut attribute = [address as u32, (address >> 32) as u32, 0, 0, data.len() as u32, 0, 0, 0];
        bpf(BPF_BTF_LOAD, &mut attribute).map(new_fd).unwrap()
    }
}
