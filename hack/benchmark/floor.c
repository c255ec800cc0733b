// SPDX-License-Identifier: Apache-2.0
// The floor: what the kernel has to do for Docker's default configuration, and nothing else. No configuration is read, nothing is
// checked, nothing is safe: it is no runtime, it is what no runtime can be faster than.
//
// usage: floor --root DIR run|create --bundle BUNDLE [--pid-file FILE] ID, and state|start|exec|kill|delete [--force] ID:
// as a runtime.
// FLOOR_ETC: the folder with resolv.conf, hostname and hosts; FLOOR_FILTER: the seccomp program, an array of struct sock_filter.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUP "/sys/fs/cgroup"
#define INTO_CGROUP 0x200000000ULL
#define CAPABILITIES 0xa80425fbULL /* the fourteen that Docker gives */

static struct sock_filter filter[4096];
static long filter_bytes;
static char cgroup_path[256], state_path[256], gate_path[256];

// Ends the program unless the call succeeded, since then nothing would be measured.
static long must(long result, const char *what) {
    if (result >= 0) return result;
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(99);
}
#define MUST(call) must((long)(call), #call)

static void put(const char *path, const char *text) {
    int file = MUST(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    MUST(write(file, text, strlen(text)));
    close(file);
}

// The device filter: reads the device's type, major and minor, and allows a list of them.
static int device_program(void) {
    static const int allowed[][3] = {{2, 1, 5}, {2, 1, 3}, {2, 1, 9}, {2, 1, 8}, {2, 1, 7}, {2, 5, 0}, {2, 5, 1}, {2, 5, 2}, {2, 136, -1}};
    struct bpf_insn program[96];
    int length = 0;
#define INSN(c, d, s, o, i) program[length++] = (struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)}
    INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
    INSN(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
    INSN(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
    INSN(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
    for (size_t index = 0; index < sizeof allowed / sizeof *allowed; index++) {
        int minor = allowed[index][2] >= 0;
        INSN(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 3 + minor, allowed[index][0]);
        INSN(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 2 + minor, allowed[index][1]);
        if (minor) INSN(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, allowed[index][2]);
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = length, .insns = (uintptr_t)program, .license = (uintptr_t) "GPL"};
    return MUST(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
}

static int make_cgroup(void) {
    MUST(mkdir(cgroup_path, 0755));
    int group = MUST(open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    union bpf_attr attach = {.target_fd = group, .attach_bpf_fd = device_program(), .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
    MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    return group;
}

static void mount_all(const char *rootfs) {
    static const char *const files[] = {"resolv.conf", "hostname", "hosts"};
    char source[3][300], *etc = getenv("FLOOR_ETC");
    MUST(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
    MUST(mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0));
    MUST(chdir(rootfs));
    MUST(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0));
    MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=67108864"));
    for (int index = 0; index < 3; index++) {
        snprintf(source[index], sizeof *source, "%s/%s", etc ? etc : "/etc", files[index]);
        char target[64];
        snprintf(target, sizeof target, "etc/%s", files[index]);
        MUST(mount(source[index], target, 0, MS_BIND | MS_REC, 0));
        MUST(mount(0, target, 0, MS_REC | MS_PRIVATE, 0));
    }
}

static void make_devices(void) {
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"pts/ptmx", "dev/ptmx"}, {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"},
    };
    umask(0);
    for (size_t index = 0; index < sizeof nodes / sizeof *nodes; index++)
        MUST(mknod(nodes[index].path, S_IFCHR | 0666, makedev(nodes[index].major, nodes[index].minor)));
    umask(022);
    for (size_t index = 0; index < sizeof links / sizeof *links; index++) MUST(symlink(links[index][0], links[index][1]));
}

static void hide(void) {
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *const masked[] = {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
        "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
    };
    put("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    put("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    for (size_t index = 0; index < sizeof readonly / sizeof *readonly; index++) {
        if (mount(readonly[index], readonly[index], 0, MS_BIND | MS_REC, 0)) continue;
        MUST(mount(0, readonly[index], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, 0));
    }
    for (size_t index = 0; index < sizeof masked / sizeof *masked; index++)
        if (mount("/dev/null", masked[index], 0, MS_BIND, 0) && errno == ENOTDIR) MUST(mount("tmpfs", masked[index], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"));
}

// Before the process is in the container, from where the file cannot be seen.
static void read_filter(void) {
    int file = MUST(open(getenv("FLOOR_FILTER"), O_RDONLY | O_CLOEXEC));
    filter_bytes = MUST(read(file, filter, sizeof filter));
    close(file);
}

static void drop_privileges(void) {
    static const gid_t groups[] = {0, 10};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{CAPABILITIES, CAPABILITIES, 0}, {0, 0, 0}};
    for (int number = 0; number <= 40; number++)
        if (!(CAPABILITIES >> number & 1)) MUST(prctl(PR_CAPBSET_DROP, number, 0, 0, 0));
    MUST(setgroups(2, groups));
    MUST(setresgid(0, 0, 0));
    MUST(setresuid(0, 0, 0));
    struct sock_fprog program = {.filter = filter, .len = filter_bytes / sizeof *filter};
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    MUST(syscall(SYS_capset, &header, sets));
}

// The container's process: everything, then its program. `gate`: it waits there for `start`; `ready`: it says so there.
static void container(const char *bundle, const char *path, int gate, int ready) {
    char rootfs[256], byte = 0;
    snprintf(rootfs, sizeof rootfs, "%s/rootfs", bundle);
    MUST(setsid());
    MUST(unshare(CLONE_NEWCGROUP));
    mount_all(rootfs);
    make_devices();
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int inet = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    MUST(ioctl(inet, SIOCSIFFLAGS, &lo));
    close(inet);
    MUST(sethostname("4f66ad9d0b2e", 12));
    hide();
    MUST(write(ready, &byte, 1));
    close(ready);
    if (gate >= 0) MUST(read(gate, &byte, 1));
    drop_privileges();
    execl(path, path, (char *)0);
    must(-1, path);
}

static int spawn(const char *bundle, const char *program, int gate) {
    int ready[2], group = make_cgroup();
    char byte;
    read_filter();
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = group};
    MUST(pipe2(ready, O_CLOEXEC));
    int pid = MUST(syscall(SYS_clone3, &args, sizeof args));
    if (pid == 0) container(bundle, program, gate, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) exit(99);
    return pid;
}

static int saved_pid(void) {
    char text[32] = "";
    int file = MUST(open(state_path, O_RDONLY | O_CLOEXEC));
    MUST(read(file, text, sizeof text - 1));
    close(file);
    return atoi(text);
}

static int exec_in(const char *program) {
    read_filter();
    int status, pid = saved_pid(), group = MUST(open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int process = MUST(syscall(SYS_pidfd_open, pid, 0));
    MUST(setns(process, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP));
    struct clone_args args = {.flags = INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = group};
    int child = MUST(syscall(SYS_clone3, &args, sizeof args));
    if (child == 0) {
        drop_privileges();
        execl(program, program, (char *)0);
        must(-1, program);
    }
    MUST(waitpid(child, &status, 0));
    return WEXITSTATUS(status);
}

int main(int count, char **words) {
    const char *root = "", *bundle = "", *pid_file = 0, *names[3] = {"", "", ""};
    char text[32];
    int found = 0, force = 0, status, pid;
    for (int index = 1; index < count; index++) {
        if (!strcmp(words[index], "--root")) root = words[++index];
        else if (!strcmp(words[index], "--bundle")) bundle = words[++index];
        else if (!strcmp(words[index], "--pid-file")) pid_file = words[++index];
        else if (!strcmp(words[index], "--force")) force = 1;
        else if (found < 3) names[found++] = words[index];
    }
    const char *verb = names[0], *id = names[1];
    snprintf(cgroup_path, sizeof cgroup_path, CGROUP "/floor-%s", id);
    snprintf(state_path, sizeof state_path, "%s/%s", root, id);
    snprintf(gate_path, sizeof gate_path, "%s/%s.gate", root, id);
    if (!strcmp(verb, "run")) {
        pid = spawn(bundle, "/bin/true", -1);
        snprintf(text, sizeof text, "%d", pid);
        put(state_path, text);
        MUST(waitpid(pid, &status, 0));
        MUST(rmdir(cgroup_path));
        return MUST(unlink(state_path)) || WEXITSTATUS(status);
    }
    if (!strcmp(verb, "create")) {
        MUST(mkfifo(gate_path, 0600));
        pid = spawn(bundle, "/bin/pause", MUST(open(gate_path, O_RDWR | O_CLOEXEC)));
        snprintf(text, sizeof text, "%d", pid);
        put(state_path, text);
        if (pid_file) put(pid_file, text);
    } else if (!strcmp(verb, "state")) {
        printf("%d\n", saved_pid());
    } else if (!strcmp(verb, "start")) {
        MUST(write(MUST(open(gate_path, O_WRONLY | O_CLOEXEC | O_NONBLOCK)), "", 1));
        MUST(unlink(gate_path));
    } else if (!strcmp(verb, "exec")) {
        return exec_in("/bin/true");
    } else if (!strcmp(verb, "kill")) {
        MUST(syscall(SYS_pidfd_send_signal, MUST(syscall(SYS_pidfd_open, saved_pid(), 0)), SIGKILL, 0, 0));
    } else if (!strcmp(verb, "delete")) {
        if (force) kill(saved_pid(), SIGKILL);
        while (rmdir(cgroup_path) && errno == EBUSY) usleep(1000);
        MUST(unlink(state_path));
        unlink(gate_path);
    } else {
        fprintf(stderr, "floor: what? %s\n", verb);
        return 2;
    }
    return 0;
}
