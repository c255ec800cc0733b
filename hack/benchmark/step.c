// SPDX-License-Identifier: Apache-2.0
// Runs a program one instruction after the other, with the processes it makes, and writes the functions that it comes to, in the order
// in which it first does so: for hack/hot-functions.
//
// usage: step OUT PROGRAM ARGUMENT…     PROGRAM has its symbols. Ends with its status.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct function { unsigned long start; const char *name; int seen; };
struct process { pid_t pid; unsigned long base; int ours; };

static struct function *functions;
static size_t count;
static struct process processes[64];
static int live;
static struct stat program;
static unsigned long entry;
static FILE *out;

static int by_start(const void *one, const void *other) {
    unsigned long a = ((const struct function *)one)->start, b = ((const struct function *)other)->start;
    return a < b ? -1 : a > b;
}

static void read_symbols(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &program)) { perror(path); exit(2); }
    const char *file = mmap(NULL, program.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    const Elf64_Ehdr *header = (const void *)file;
    const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
    entry = header->e_entry;
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const Elf64_Sym *symbols = (const void *)(file + sections[i].sh_offset);
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        size_t all = sections[i].sh_size / sizeof *symbols;
        functions = calloc(all, sizeof *functions);
        for (size_t s = 0; s < all; s++) {
            const Elf64_Sym *symbol = symbols + s;
            int kind = ELF64_ST_TYPE(symbol->st_info);
            if (symbol->st_shndx && symbol->st_value && (kind == STT_FUNC || kind == STT_NOTYPE) && names[symbol->st_name])
                functions[count++] = (struct function){symbol->st_value, names + symbol->st_name, 0};
        }
    }
    qsort(functions, count, sizeof *functions, by_start);
    if (!count) { fprintf(stderr, "%s has no symbols\n", path); exit(2); }
}

static void note(unsigned long address) {
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (functions[middle].start <= address) low = middle; else high = middle;
    }
    // Functions that are the same were made one: which of their names it has in another build, nobody knows.
    while (low && functions[low - 1].start == functions[low].start) low--;
    if (functions[low].seen) return;
    functions[low].seen = 1;
    for (size_t same = low; same < count && functions[same].start == functions[low].start; same++) fprintf(out, "%s\n", functions[same].name);
}

static struct process *find(pid_t pid) {
    struct process *free_place = NULL;
    for (int i = 0; i < 64; i++) {
        if (processes[i].pid == pid) return processes + i;
        if (!processes[i].pid && !free_place) free_place = processes + i;
    }
    *free_place = (struct process){pid, processes[0].base, 1};
    live++;
    return free_place;
}

static unsigned long instruction(pid_t pid) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, pid, 0, &registers);
    return registers.rip;
}

int main(int argc, char **argv) {
    if (argc < 3 || !(out = fopen(argv[1], "w"))) return 2;
    read_symbols(argv[2]);
    pid_t first = fork();
    if (!first) { ptrace(PTRACE_TRACEME, 0, 0, 0); execv(argv[2], argv + 2); _exit(127); }
    int status, code = 2;
    waitpid(first, &status, 0);
    ptrace(PTRACE_SETOPTIONS, first, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC);
    find(first)->base = instruction(first) - entry;
    ptrace(PTRACE_SINGLESTEP, first, 0, 0);
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
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC) {
            char exe[32];
            struct stat runs;
            snprintf(exe, sizeof exe, "/proc/%d/exe", pid);
            process->ours = !stat(exe, &runs) && runs.st_ino == program.st_ino && runs.st_dev == program.st_dev;
            process->base = instruction(pid) - entry;
        } else if (event) {
            unsigned long made;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &made);
            find(made)->base = process->base;
        }
        if (event || signal == SIGTRAP || signal == SIGSTOP) signal = 0;
        if (process->ours) note(instruction(pid) - process->base);
        ptrace(process->ours ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, 0, signal);
    }
    fclose(out);
    return code;
}
