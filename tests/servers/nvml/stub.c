/* A libnvidia-ml.so.1 that says what the environment tells it to, read anew at each call. Layouts and numbers are
   those of NVML's reference.

   STUB_BUSY    utilisation in % of each GPU, with commas: as many GPUs as numbers
   STUB_PIDS    the processes that compute: GPUs apart by ';', their pids by ','
   STUB_SM      multiprocessors that have work, in %, of each GPU; not set: no GPM
   STUB_MIG     set: every GPU is cut into instances
   STUB_DENIED  set: nothing of a GPU may be read
   STUB_HIDDEN  set: the processes may not be read
   STUB_GONE    set: the driver is gone */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { MOST = 16, SM_UTIL = 2 };

typedef struct { int index; } Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute_instance; } Process;
typedef struct { unsigned version, supported; } Support;
typedef struct { int device, number; } Sample;
typedef struct { unsigned id; int result; double value; const char *names[3]; } Metric;
typedef struct { unsigned version, count; Sample *first, *second; Metric metrics[1]; } Query;

static Device devices[MOST];
static int samples;

/* The field of that number in $name, apart by any of the separators; NULL when there is none. */
static const char *field(const char *name, int number, char separator) {
    const char *at = getenv(name);
    while (at && number--) {
        at = strchr(at, separator);
        at = at ? at + 1 : NULL;
    }
    return at;
}

static int gpus(void) {
    int count = 0;
    while (count < MOST && field("STUB_BUSY", count, ',')) count++;
    return count;
}

static int state(void) {
    if (getenv("STUB_GONE")) return GPU_IS_LOST;
    return getenv("STUB_DENIED") ? NO_PERMISSION : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { return getenv("STUB_GONE") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int error) { return "an error of the stub"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = gpus();
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if ((int)index >= gpus()) return INVALID_ARGUMENT;
    devices[index].index = index;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetName(Device *device, char *name, unsigned size) {
    snprintf(name, size, "Stub");
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned size) {
    snprintf(uuid, size, "GPU-%08d-stub", device->index);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *now, unsigned *later) {
    *now = *later = getenv("STUB_MIG") != NULL;
    return state();
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *utilization) {
    if (state() != SUCCESS) return state();
    if (getenv("STUB_MIG")) return NOT_SUPPORTED;
    utilization->gpu = atoi(field("STUB_BUSY", device->index, ','));
    utilization->memory = 1;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    const char *at = field("STUB_PIDS", device->index, ';');
    unsigned room = *count, found = 0;
    if (state() != SUCCESS) return state();
    if (getenv("STUB_HIDDEN")) return NO_PERMISSION;
    while (at && *at && *at != ';') {
        if (processes && found < room) {
            memset(&processes[found], 0, sizeof *processes);
            processes[found].pid = strtoul(at, NULL, 10);
        }
        found++;
        at += strcspn(at, ",;");
        at += *at == ',';
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlGpmQueryDeviceSupport(Device *device, Support *support) {
    if (support->version != 1) return INVALID_ARGUMENT;
    support->supported = getenv("STUB_SM") != NULL;
    return state();
}

int nvmlGpmSampleAlloc(Sample **sample) {
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

int nvmlGpmSampleFree(Sample *sample) {
    free(sample);
    return SUCCESS;
}

int nvmlGpmSampleGet(Device *device, Sample *sample) {
    if (state() != SUCCESS) return state();
    sample->device = device->index;
    sample->number = ++samples;
    return SUCCESS;
}

int nvmlGpmMetricsGet(Query *query) {
    const char *busy = field("STUB_SM", query->first->device, ',');
    if (query->version != 1 || query->count != 1 || query->metrics[0].id != SM_UTIL) return INVALID_ARGUMENT;
    if (query->first->device != query->second->device) return INVALID_ARGUMENT;
    if (query->first->number >= query->second->number) return INVALID_ARGUMENT; /* the later one is the second */
    if (state() != SUCCESS) return state();
    query->metrics[0].result = busy ? SUCCESS : NOT_SUPPORTED;
    query->metrics[0].value = busy ? atof(busy) : 0;
    return SUCCESS;
}
