// What tests tell the fake onnxruntime, and ask it.
#pragma once

extern "C" {
void fake_waits(int microseconds);      // that every segment takes
void fake_takes(int rows);              // more of them in a run are too many for its memory
void fake_host_was_first(bool first);   // then there is no pool to share
int fake_objects();                     // that were made and not released
}
