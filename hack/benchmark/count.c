// SPDX-License-Identifier: Apache-2.0
// Runs a program that counts how often each of its pieces is come to (rustc -Cprofile-generate), with the processes it makes, and writes
// the counts as LLVM's runtime would: for hack/profile. That runtime writes when a program ends by exit(3), which ours does not, and
// processes of it go on in a container, where there is no place for the file.
//
// usage: count OUT PROGRAM ARGUMENT…     PROGRAM has its symbols. Ends with its status.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct process { pid_t pid; unsigned long base; int ours, inside; };

static struct process processes[64];
static int live;
static struct stat program;
static const char *file;
static unsigned long entry, version;
static Elf64_Shdr counters, functions, names;
static unsigned long *total, *read_now;
static size_t count;

static void read_sections(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &program)) { perror(path); exit(2); }
    file = mmap(NULL, program.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    const Elf64_Ehdr *header = (const void *)file;
    const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
    const char *texts = file + sections[header->e_shstrndx].sh_offset;
    entry = header->e_entry;
    for (int i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *section = sections + i;
        if (!strcmp(texts + section->sh_name, "__llvm_prf_cnts")) counters = *section;
        if (!strcmp(texts + section->sh_name, "__llvm_prf_data")) functions = *section;
        if (!strcmp(texts + section->sh_name, "__llvm_prf_names")) names = *section;
        if (section->sh_type != SHT_SYMTAB) continue;
        const Elf64_Sym *symbols = (const void *)(file + section->sh_offset);
        const char *of_symbols = file + sections[section->sh_link].sh_offset;
        for (size_t s = 0; s < section->sh_size / sizeof *symbols; s++) {
            if (strcmp(of_symbols + symbols[s].st_name, "__llvm_profile_raw_version")) continue;
            const Elf64_Shdr *in = sections + symbols[s].st_shndx;
            memcpy(&version, file + in->sh_offset + (symbols[s].st_value - in->sh_addr), sizeof version);
        }
    }
    count = counters.sh_size / sizeof *total;
    // The form that is written below; the upper bits say how it was counted.
    if (!count || (version & 0xffffffff) != 10) { fprintf(stderr, "%s does not count, or in another form\n", path); exit(2); }
    total = calloc(count, sizeof *total);
    read_now = calloc(count, sizeof *read_now);
}

// Adds what a process has counted.
static void take(const struct process *process) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", process->pid);
    int fd = open(path, O_RDONLY);
    ssize_t size = count * sizeof *total;
    if (pread(fd, read_now, size, process->base + counters.sh_addr) == size)
        for (size_t i = 0; i < count; i++) total[i] += read_now[i];
    else
        perror(path);
    close(fd);
}

// A raw profile of LLVM (INSTR_PROF_RAW_HEADER in its InstrProfData.inc), without bitmaps, values and tables of functions.
static int save(const char *path) {
    static const unsigned long MAGIC = 0xff6c70726f667281, FUNCTION = 64, KINDS = 2;
    unsigned long header[16] = {MAGIC, version, 0, functions.sh_size / FUNCTION, 0, count, 0, 0, 0, names.sh_size,
        counters.sh_addr - functions.sh_addr, 0, names.sh_addr, 0, 0, KINDS};
    FILE *out = fopen(path, "w");
    if (!out) return -1;
    fwrite(header, sizeof header, 1, out);
    fwrite(file + functions.sh_offset, 1, functions.sh_size, out);
    fwrite(total, sizeof *total, count, out);
    fwrite(file + names.sh_offset, 1, names.sh_size, out);
    fwrite("\0\0\0\0\0\0\0", 1, -names.sh_size % 8, out);
    return fclose(out);
}

static struct process *find(pid_t pid) {
    struct process *free_place = NULL;
    for (int i = 0; i < 64; i++) {
        if (processes[i].pid == pid) return processes + i;
        if (!processes[i].pid && !free_place) free_place = processes + i;
    }
    // It has its maker's memory: its counts go on from those, so that what comes into a function is what goes out of it.
    *free_place = (struct process){pid, processes[0].base, 1, 0};
    live++;
    return free_place;
}

// Counts are lost where another program begins, and where the program maps its own file over itself (src/linux/start/view.rs).
static void before(const struct process *process) {
    struct user_regs_struct call;
    ptrace(PTRACE_GETREGS, process->pid, 0, &call);
    unsigned long at = process->base + counters.sh_addr;
    int over = call.orig_rax == SYS_mmap && call.r10 & MAP_FIXED && call.rdi < at + counters.sh_size && at < call.rdi + call.rsi;
    if (over || call.orig_rax == SYS_execve || call.orig_rax == SYS_execveat) take(process);
}

static void begun(struct process *process) {
    char path[32];
    struct stat runs;
    struct user_regs_struct at;
    snprintf(path, sizeof path, "/proc/%d/exe", process->pid);
    process->ours = !stat(path, &runs) && runs.st_ino == program.st_ino && runs.st_dev == program.st_dev;
    ptrace(PTRACE_GETREGS, process->pid, 0, &at);
    process->base = at.rip - entry;
    process->inside = 1;
}

static const int OPTIONS = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT
    | PTRACE_O_TRACESYSGOOD;

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    read_sections(argv[2]);
    pid_t first = fork();
    if (!first) { ptrace(PTRACE_TRACEME, 0, 0, 0); execv(argv[2], argv + 2); _exit(127); }
    int status, code = 2;
    waitpid(first, &status, 0);
    ptrace(PTRACE_SETOPTIONS, first, 0, OPTIONS);
    begun(find(first));
    processes[0].inside = 0;
    ptrace(PTRACE_SYSCALL, first, 0, 0);
    while (live > 0) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) { if (errno == EINTR) continue; break; }
        struct process *process = find(pid);
        if (!WIFSTOPPED(status)) {
            if (pid == first) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            process->pid = 0;
            live--;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, call = signal == (SIGTRAP | 0x80);
        if (event == PTRACE_EVENT_EXEC) begun(process);
        else if (event == PTRACE_EVENT_EXIT) { if (process->ours) take(process); }
        else if (call && process->ours && (process->inside = !process->inside)) before(process);
        if (event || call || signal == SIGTRAP || signal == SIGSTOP) signal = 0;
        ptrace(process->ours ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, signal);
    }
    return save(argv[1]) ? 2 : code;
}
