/* The system calls that scripts/bench times, in C, so that the filesystem is measured and not the caller.
 *
 *   bench_calls create DIR COUNT SIZE SEED   create, write SIZE bytes, close; directories are made before
 *   bench_calls stream FILE BYTES BLOCK      sequential writes of BLOCK bytes into one new file, and its close
 *   bench_calls stat   DIR COUNT             lstat of each file that `create` made
 *   bench_calls read   DIR COUNT SIZE        open, read to the end, close of each
 *   bench_calls walk   DIR                   readdir of every directory below, without stat, as find does
 *
 * Prints the seconds of the timed part. If a call fails, it prints a line to stderr and exits with status 1.
 * The files of a tree are 100 to a directory, 10 directories to a parent.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PER_DIRECTORY = 100, PER_PARENT = 10 };

static void die(const char *what)
{
    fprintf(stderr, "bench_calls: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static const char *name(long i)
{
    static char text[64];
    long directory = i / PER_DIRECTORY;
    snprintf(text, sizeof text, "p%03ld/d%03ld/f%06ld", directory / PER_PARENT, directory, i);
    return text;
}

static void make_directories(long count)
{
    char text[64];
    for (long d = 0; d * PER_DIRECTORY < count; d++) {
        snprintf(text, sizeof text, "p%03ld", d / PER_PARENT);
        if (d % PER_PARENT == 0 && mkdir(text, 0755))
            die(text);
        snprintf(text, sizeof text, "p%03ld/d%03ld", d / PER_PARENT, d);
        if (mkdir(text, 0755))
            die(text);
    }
}

/* xorshift: bytes that neither compress nor repeat from file to file, so no system can share them. */
static void fill(char *data, size_t size, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < size; i += sizeof x) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(data + i, &x, size - i < sizeof x ? size - i : sizeof x);
    }
}

static void write_all(int fd, const char *data, size_t size)
{
    ssize_t done = write(fd, data, size);
    if (done < 0 || (size_t)done != size)
        die("write");
}

static double create(long count, size_t size, uint64_t seed)
{
    char *data = malloc(size + 1);
    make_directories(count);
    fill(data, size, seed);
    double start = now();
    for (long i = 0; i < count; i++) {
        uint64_t own = seed * 1000003 + i;  /* makes each file's bytes its own */
        memcpy(data, &own, size < sizeof own ? size : sizeof own);
        int fd = open(name(i), O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
            die(name(i));
        write_all(fd, data, size);
        if (close(fd))
            die("close");
    }
    return now() - start;
}

static double stream(const char *path, long long bytes, size_t block)
{
    char *data = malloc(block);
    fill(data, block, 1);
    double start = now();
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        die(path);
    for (long long done = 0; done < bytes; done += block)
        write_all(fd, data, block);
    if (close(fd))
        die("close");
    return now() - start;
}

static double stat_all(long count)
{
    struct stat st;
    double start = now();
    for (long i = 0; i < count; i++)
        if (lstat(name(i), &st))
            die(name(i));
    return now() - start;
}

static double read_all(long count, size_t size)
{
    char *data = malloc(size + 1);
    double start = now();
    for (long i = 0; i < count; i++) {
        int fd = open(name(i), O_RDONLY);
        if (fd < 0)
            die(name(i));
        ssize_t got = read(fd, data, size + 1);
        if (got < 0 || (size_t)got != size)
            die("read");
        if (close(fd))
            die("close");
    }
    return now() - start;
}

static long walk(int parent, const char *path)
{
    long found = 0;
    int fd = openat(parent, path, O_RDONLY | O_DIRECTORY);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        die(path);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        found++;
        if (entry->d_type == DT_DIR)
            found += walk(fd, entry->d_name);
    }
    closedir(directory);
    return found;
}

int main(int argc, char **argv)
{
    double seconds;
    const char *what = argc > 2 ? argv[1] : "";
    int args = argc - 2;
    if (strcmp(what, "stream") && argc > 2 && chdir(argv[2]))
        die(argv[2]);
    if (!strcmp(what, "create") && args == 4) {
        seconds = create(atol(argv[3]), atol(argv[4]), atol(argv[5]));
    } else if (!strcmp(what, "stream") && args == 3) {
        seconds = stream(argv[2], atoll(argv[3]), atol(argv[4]));
    } else if (!strcmp(what, "stat") && args == 2) {
        seconds = stat_all(atol(argv[3]));
    } else if (!strcmp(what, "read") && args == 3) {
        seconds = read_all(atol(argv[3]), atol(argv[4]));
    } else if (!strcmp(what, "walk") && args == 1) {
        double start = now();
        if (!walk(AT_FDCWD, "."))
            die("empty tree");
        seconds = now() - start;
    } else {
        fprintf(stderr, "usage: see the head of bench_calls.c\n");
        return 2;
    }
    printf("%.9f\n", seconds);
    return 0;
}
