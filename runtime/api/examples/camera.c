/* A camera-like loop: frames of one size, one answer each, latency percentiles at the end.
 *
 *   cc camera.c $(pkg-config --cflags --libs vitrun) -o camera
 *   ./camera model.qbin FRAMES */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <vitrun.h>

enum { kWidth = 640, kHeight = 480 };

static double milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* Stands for the camera: a moving gradient. */
static void grab(unsigned char* rgb, int frame) {
  for (int y = 0; y < kHeight; y++)
    for (int x = 0; x < kWidth; x++) {
      unsigned char* p = rgb + 3 * (y * kWidth + x);
      p[0] = (unsigned char)(x + frame);
      p[1] = (unsigned char)(y + 2 * frame);
      p[2] = (unsigned char)(x + y);
    }
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  int frames = argc == 3 ? atoi(argv[2]) : 0;
  if (frames < 1 || frames > 1000000) {
    fprintf(stderr, "usage: camera MODEL.qbin FRAMES\n");
    return 2;
  }
  vit_model* model = NULL;
  vit_session* session = NULL;
  if (vit_model_open(argv[1], NULL, &model) || vit_session_create(model, NULL, &session)) {
    fprintf(stderr, "%s\n", vit_last_error());
    return 1;
  }
  unsigned char* rgb = (unsigned char*)malloc(3 * kWidth * kHeight);
  size_t classes = (size_t)vit_model_classes(model);
  float* logits = (float*)malloc(sizeof(float) * classes);
  vit_output out = {"logits", NULL, 0};
  out.data = logits;
  out.size = classes;
  double* spent = (double*)malloc(sizeof(double) * (size_t)frames);
  if (!rgb || !logits || !spent) return 1;
  for (int i = 0; i < frames; i++) {
    grab(rgb, i);
    double start = milliseconds();
    if (vit_session_run_rgb(session, rgb, kWidth, kHeight, 3 * kWidth, &out, 1)) {
      fprintf(stderr, "%s\n", vit_last_error());
      return 1;
    }
    spent[i] = milliseconds() - start;
  }
  qsort(spent, (size_t)frames, sizeof *spent, ascending);
  printf("%d frames on %s: p50 %.2f ms, p95 %.2f ms, worst %.2f ms\n", frames,
         vit_session_isa(session), spent[frames / 2], spent[frames * 95 / 100], spent[frames - 1]);
  free(spent);
  free(logits);
  free(rgb);
  vit_session_free(session);
  vit_model_close(model);
  return 0;
}
