/* A camera loop with a detector: frames of one size; says what is on each and how long it took.
 *
 *   cc detect.c $(pkg-config --cflags --libs vitrun) -o detect
 *   ./detect street.qbin frames.rgb WIDTH HEIGHT
 *
 * frames.rgb holds frames of 8-bit R, G, B pixels one after another; `-` reads them from stdin, so
 * that `ffmpeg -i /dev/video0 -f rawvideo -pix_fmt rgb24 - | ./detect street.qbin - 640 480` runs
 * on a camera. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vitrun.h>

static double milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int report(const vit_model* model, const vit_detector* detector, int found) {
  for (int i = 0; i < found; i++) {
    vit_detection d;
    if (vit_detector_get(detector, i, &d)) return 1;
    const char* label = vit_model_label(model, d.class_index);
    printf("  %.6f %d %s x %.2f to %.2f y %.2f to %.2f\n", d.score, d.class_index,
           label ? label : "?", d.x1, d.x2, d.y1, d.y2);
  }
  return 0;
}

/* Reads frames until there are no more; returns the exit status. */
static int run(const vit_model* model, vit_detector* detector, FILE* in, int width, int height) {
  size_t bytes = (size_t)width * (size_t)height * 3;
  unsigned char* rgb = (unsigned char*)malloc(bytes);
  int failed = rgb == NULL;
  printf("at most %.1f MB for a frame, on %s\n",
         1e-6 * (double)vit_detector_memory_for(detector, width, height),
         vit_detector_isa(detector));
  for (int frame = 0; !failed && fread(rgb, 1, bytes, in) == bytes; frame++) {
    double start = milliseconds();
    int found = 0;
    failed = vit_detector_run_rgb(detector, rgb, width, height, 3 * width, &found);
    if (failed) break;
    printf("frame %d, %.1f ms: %d found\n", frame, milliseconds() - start, found);
    failed = report(model, detector, found);
  }
  if (failed) fprintf(stderr, "%s\n", vit_last_error());
  free(rgb);
  return failed ? 1 : 0;
}

int main(int argc, char** argv) {
  int width = argc == 5 ? atoi(argv[3]) : 0, height = argc == 5 ? atoi(argv[4]) : 0;
  if (width < 1 || height < 1) {
    fprintf(stderr, "usage: detect MODEL.qbin FRAMES.rgb|- WIDTH HEIGHT\n");
    return 2;
  }
  FILE* in = strcmp(argv[2], "-") == 0 ? stdin : fopen(argv[2], "rb");
  if (!in) {
    perror(argv[2]);
    return 1;
  }
  vit_model* model = NULL;
  vit_detector* detector = NULL;
  int status = 1;
  if (vit_model_open(argv[1], NULL, &model) || vit_detector_create(model, NULL, &detector))
    fprintf(stderr, "%s\n", vit_last_error());
  else
    status = run(model, detector, in, width, height);
  if (in != stdin) fclose(in);
  vit_detector_free(detector);
  vit_model_close(model);
  return status;
}
