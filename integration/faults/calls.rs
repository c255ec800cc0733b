// SPDX-License-Identifier: Apache-2.0
//! Which system calls are points: where a runtime can be killed with a different outcome, and which of them can fail.

use libc::c_long;

macro_rules! calls {
    ($($name:ident)*) => {
        /// The name of a system call, for reports.
        pub fn name(number: c_long) -> String {
            paste_match!(number, $($name)*)
        }
    };
}

macro_rules! paste_match {
    ($number:expr, $($name:ident)*) => {
        match $number {
            $(x if x == numbers::$name => stringify!($name).to_string(),)*
            other => format!("call {other}"),
        }
    };
}

/// The numbers under the plain names of the calls.
#[allow(non_upper_case_globals)]
mod numbers {
    macro_rules! numbers {
        ($($name:ident = $libc:ident)*) => { $(pub const $name: libc::c_long = libc::$libc;)* };
    }
    numbers! {
        accept4 = SYS_accept4 bind = SYS_bind bpf = SYS_bpf capset = SYS_capset capget = SYS_capget chdir = SYS_chdir
        clone = SYS_clone clone3 = SYS_clone3 connect = SYS_connect close_range = SYS_close_range dup = SYS_dup dup2 = SYS_dup2
        dup3 = SYS_dup3 epoll_create1 = SYS_epoll_create1 epoll_ctl = SYS_epoll_ctl epoll_wait = SYS_epoll_wait
        execve = SYS_execve execveat = SYS_execveat exit_group = SYS_exit_group faccessat2 = SYS_faccessat2
        fchdir = SYS_fchdir fchmod = SYS_fchmod fchmodat = SYS_fchmodat fchown = SYS_fchown fchownat = SYS_fchownat
        fcntl = SYS_fcntl flock = SYS_flock fork = SYS_fork fsconfig = SYS_fsconfig fsmount = SYS_fsmount fsopen = SYS_fsopen
        fstat = SYS_fstat fstatfs = SYS_fstatfs ftruncate = SYS_ftruncate getdents64 = SYS_getdents64
        getsockopt = SYS_getsockopt inotify_add_watch = SYS_inotify_add_watch inotify_init1 = SYS_inotify_init1
        ioctl = SYS_ioctl kill = SYS_kill linkat = SYS_linkat listen = SYS_listen lseek = SYS_lseek memfd_create = SYS_memfd_create
        mkdir = SYS_mkdir mkdirat = SYS_mkdirat mknodat = SYS_mknodat mount = SYS_mount mount_setattr = SYS_mount_setattr
        move_mount = SYS_move_mount newfstatat = SYS_newfstatat open = SYS_open open_tree = SYS_open_tree openat = SYS_openat
        openat2 = SYS_openat2 pidfd_open = SYS_pidfd_open pidfd_send_signal = SYS_pidfd_send_signal pipe2 = SYS_pipe2
        pivot_root = SYS_pivot_root poll = SYS_poll ppoll = SYS_ppoll prctl = SYS_prctl pread64 = SYS_pread64
        prlimit64 = SYS_prlimit64 pwrite64 = SYS_pwrite64 read = SYS_read readlink = SYS_readlink readlinkat = SYS_readlinkat
        recvmsg = SYS_recvmsg renameat = SYS_renameat renameat2 = SYS_renameat2 rename = SYS_rename rmdir = SYS_rmdir
        seccomp = SYS_seccomp sendmsg = SYS_sendmsg sendto = SYS_sendto setgroups = SYS_setgroups sethostname = SYS_sethostname
        setns = SYS_setns setpgid = SYS_setpgid setresgid = SYS_setresgid setresuid = SYS_setresuid setsid = SYS_setsid
        socket = SYS_socket socketpair = SYS_socketpair statfs = SYS_statfs statx = SYS_statx symlinkat = SYS_symlinkat
        tgkill = SYS_tgkill umask = SYS_umask umount2 = SYS_umount2 unlink = SYS_unlink unlinkat = SYS_unlinkat
        unshare = SYS_unshare utimensat = SYS_utimensat vfork = SYS_vfork wait4 = SYS_wait4 waitid = SYS_waitid
        write = SYS_write writev = SYS_writev uname = SYS_uname getcwd = SYS_getcwd keyctl = SYS_keyctl signalfd4 = SYS_signalfd4
    }
    /// Linux 6.15; libc does not name it yet.
    pub const open_tree_attr: libc::c_long = 467;
}

calls! {
    accept4 bind bpf capset capget chdir clone clone3 connect close_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait execve
    execveat exit_group faccessat2 fchdir fchmod fchmodat fchown fchownat fcntl flock fork fsconfig fsmount fsopen fstat fstatfs
    ftruncate getdents64 getsockopt inotify_add_watch inotify_init1 ioctl kill linkat listen lseek memfd_create mkdir mkdirat mknodat
    mount mount_setattr move_mount newfstatat open open_tree open_tree_attr openat openat2 pidfd_open pidfd_send_signal pipe2 pivot_root poll ppoll
    prctl pread64 prlimit64 pwrite64 read readlink readlinkat recvmsg renameat renameat2 rename rmdir seccomp sendmsg sendto setgroups
    sethostname setns setpgid setresgid setresuid setsid socket socketpair statfs statx symlinkat tgkill umask umount2 unlink unlinkat
    unshare utimensat vfork wait4 waitid write writev uname getcwd keyctl signalfd4
}

/// Calls that change nothing but the caller's own memory, signals and clock, or tell it who it is. They cannot fail in a way that a
/// program could answer (memory: the allocator ends it), or only by a mistake of the caller; std's own start makes most of them.
/// `close` frees its descriptor whatever it returns.
const OWN: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_pause,
    libc::SYS_umask,
    libc::SYS_close,
    libc::SYS_exit,
];

/// Calls without an effect outside: killing before one of them is killing before the next that has one.
const READS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_lseek,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_capget,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_fcntl,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_dup,
    libc::SYS_pipe2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_memfd_create,
    libc::SYS_pidfd_open,
    libc::SYS_prlimit64,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_getgroups,
    libc::SYS_sched_getattr,
    libc::SYS_ioprio_get,
];

/// Whether a kill before this call can leave something else behind than a kill before the next. `flags` are those of an open.
pub fn has_effect(number: c_long, flags: u64) -> bool {
    if [libc::SYS_open, libc::SYS_openat, libc::SYS_openat2].contains(&number) {
        // __O_TMPFILE alone: O_TMPFILE has O_DIRECTORY in it.
        const MAKES: i32 = libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);
        return flags & MAKES as u64 != 0;
    }
    !OWN.contains(&number) && !READS.contains(&number)
}

/// Whether this call can be told to fail.
pub fn can_fail(number: c_long) -> bool {
    number != libc::SYS_exit_group && !OWN.contains(&number)
}
