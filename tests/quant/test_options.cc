// The options of vitquant: spellings that mean the same make the same file to the byte, and wrong
// use is refused.
#include <doctest/doctest.h>

#include <set>
#include <sstream>

#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

Command quantize_command(const std::string& name, const std::string& options,
                         const TempFolder& folder) {
  Command command = {"vitquant", "-w", model(name), "--calib-raw", input_of(name)};
  std::istringstream words(options);
  for (std::string word; words >> word;) command.push_back(word);
  for (std::string& word : command)  // the folder's name holds a space
    if (const size_t at = word.find('@'); at != word.npos) word.replace(at, 1, folder / "");
  command.insert(command.end(), {"-o", folder / "m.qbin"});
  return command;
}

std::string quantized(const std::string& name, const std::string& options,
                      const TempFolder& folder) {
  output_of(quantize_command(name, options, folder));
  return read_bytes(folder / "m.qbin");
}

TEST_CASE("vitquant: the fixed spelling of an option and the everyday one make the same file") {
  const std::pair<const char*, const char*> same[] = {
      {"", "--recipe default --bits 8"},
      {"--method auto --wbits 4 --abits 4", "--bits 4"},
      {"--wbits 4", "--method auto --recipe default --bits 4/8"},
      {"--method repq --wbits 6 --abits 6", "--recipe repq --bits 6/6"},
      {"--method crl --wbits 4 --abits 8", "--recipe crl --method crl --bits 4/8"},
      {"--method layerwise --wbits 3", "--recipe layerwise --bits 3/8"},
      {"--method fq-vit", "--recipe fq-vit"},
      {"--method ptq4vit --wbits 6 --abits 6", "--recipe ptq4vit --bits 6"},
      {"--method apq-vit --wbits 4 --abits 4", "--recipe apq-vit --bits 4"},
      {"--method repq --abits 6",
       "--recipe default --abits 6 "
       "--without rounding,levels,split,rotation,heads,rows"},
      {"--recipe repq --bits 6 --with rounding,levels,split,rotation,heads,rows", "--bits 6"},
      {"--recipe layerwise --bits 4/8 --with rounding,levels --with split,rotation,rows:32",
       "--wbits 4 --abits 8"},
      {"--wbits 4 --mixed lrp --importance @s.json", "--bits 4/8,lrp:@s.json"},
      {"--wbits 4 --abits 4 --mixed lrp --mp-case by-block --importance @s.json",
       "--bits 4,lrp:@s.json --mp-case by-block"},
      {"--bits lrp:@s.json --wbits 4", "--bits 4/8,lrp:@s.json"},
      {"--wbits 4 --mixed budget --size 22000", "--bits 4/8,budget:22000"},
      {"--wbits 4 --mixed budget --size 22000 --importance @s.json",
       "--bits 4/8,budget:22000 --importance @s.json"},
      {"--size 15000", "--bits size:15000"},
      {"--wbits 5 --abits 6 --size 16000 --mixed none", "--bits 5/6,size:16000"},
      {"--bits @bits.json --wbits 4 --abits 6", "--bits 4/6,@bits.json"},
      {"--bits target:avx2", "--wbits 4 --bits target:avx2"},
      {"--bits 5/7,target:avx2", "--wbits 5 --abits 7 --bits target:avx2"}};
  const TempFolder folder;
  folder.file("bits.json", R"({"head": [3, 5]})");
  for (const auto& [one, other] : same) {
    CAPTURE(std::string(one));
    // A ViT of two blocks is too small for --mixed lrp.
    const bool by_relevance = std::string(other).find("lrp:") != std::string::npos;
    const std::string name = by_relevance ? "swin" : "vit", scores = folder / "s.json";
    output_of({"vitlrp", "-w", model(name), "--raw", input_of(name), "-o", scores});
    CHECK(quantized(name, one, folder) == quantized(name, other, folder));
  }
}

TEST_CASE("vitquant: each step, each K and each limit makes a file of its own") {
  const TempFolder folder;
  output_of({"vitlrp", "-w", model("swin"), "--raw", input_of("swin"), "-o", folder / "s.json"});
  std::set<std::string> files;
  const char* const differ[] = {"--bits 4",
                                "--bits 4 --without rounding",
                                "--bits 4 --without levels",
                                "--bits 4 --without split",
                                "--bits 4 --without rotation",
                                "--bits 4 --without heads",
                                "--bits 4 --without residual",
                                "--bits 4 --without rows",
                                "--bits 4 --with rows:16",
                                "--bits 4 --tune 1",
                                "--bits 4 --tune 2",
                                "--bits 8",
                                "--bits 8 --with heads",
                                "--recipe crl",
                                "--recipe crl:1.5",
                                "--recipe crl:3",
                                "--bits 4,lrp:@s.json",
                                "--bits 4,lrp:@s.json,weights",
                                "--bits size:24000",
                                "--bits size:24000 --tune 2",
                                "--bits size:27000",
                                "--bits 4/8,size:24000",
                                "--bits size:24000 --without rounding",
                                "--bits size:24000,by=equal",
                                "--bits size:24000,by=random",
                                "--bits size:24000,by=relevance --importance @s.json",
                                "--bits size:24000,by=relevance-error --importance @s.json",
                                "--bits target:avx2",
                                "--bits target:avx2,size=35500",
                                "--bits target:avx2,time=0.02"};
  for (const char* options : differ) {
    CAPTURE(std::string(options));
    CHECK(files.insert(quantized("swin", options, folder)).second);
  }
}

// Swin V2 merges patches before it normalises them, so that a Linear reads a Window of a map.
TEST_CASE("vitquant: errors are predicted of Linears that read a map through a Window") {
  const TempFolder folder;
  std::set<std::string> files;
  for (const char* options : {"--bits 4/8,budget:48000", "--bits size:38000", "--bits target:avx2"})
    CHECK(files.insert(quantized("swinv2", options, folder)).second);
}

TEST_CASE("vitquant: wrong use of options is status 2 and says what is right") {
  const std::pair<const char*, const char*> table[] = {
      {"--recipe best", "--recipe 'best': expected default, repq, crl, crl:K"},
      {"--method best", "--method 'best': expected default"},
      {"--recipe auto", "--recipe 'auto'"},
      {"--recipe crl:0", "--recipe 'crl:0'"},
      {"--recipe crl:", "--recipe 'crl:'"},
      {"--recipe crl:2x", "--recipe 'crl:2x'"},
      {"--recipe crl:inf", "--recipe 'crl:inf'"},
      {"--recipe repq:2", "--recipe 'repq:2'"},
      {"--recipe repq --method crl", "name different recipes"},
      {"--recipe repq --method auto", "name different recipes"},
      {"--without speed", "--without 'speed': expected rounding, levels, split, rotation, heads"},
      {"--with rounding,,heads", "--with '': expected"},
      {"--with rows:8", "--with 'rows:8': expected rows:N, N from 16 to 16384"},
      {"--with rows:", "--with 'rows:': expected rows:N"},
      {"--without rows:32", "--without 'rows:32': expected"},
      {"--with heads --without rounding,heads", "step 'heads' is both in --with and in --without"},
      {"--tune 0", "--tune"},
      {"--bits 2", "--bits must be 3 to 8, or two such numbers as in 4/8, got '2'"},
      {"--bits 4/9", "got '4/9'"},
      {"--bits 4/", "got '4/'"},
      {"--bits /", "got '/'"},
      {"--bits 4/8/8", "got '4/8/8'"},
      {"--bits 99999999999", "got '99999999999'"},
      {"--bits four", "--bits 'four': expected B, W/A, FILE.json, lrp:SCORES.json"},
      {"--bits 4,", "--bits '': expected"},
      {"--bits lrp:", "--bits 'lrp:'"},
      {"--bits target:", "--bits 'target:'"},
      {"--bits budget:", "expected a number of bytes, got ''"},
      {"--bits budget:-3", "expected a number of bytes, got '-3'"},
      {"--bits target:avx2,size=1MB", "expected a number of bytes, got '1MB'"},
      {"--bits target:avx2,time=0", "time must be milliseconds above 0"},
      {"--bits target:avx2,time=nan", "time must be milliseconds above 0"},
      {"--bits target:avx2,speed=3", "--bits: unexpected 'speed=3'"},
      {"--bits target:avx2,weights", "--bits: unexpected 'weights'"},
      {"--bits budget:9000,time=3", "--bits: unexpected 'time=3'"},
      {"--bits x.json,weights", "--bits: unexpected 'weights'"},
      {"--bits target:avx2 --recipe ptq4vit", "ptq4vit"},
      {"--bits target:avx2 --with rows", "--bits target needs calibrated ranges"},
      {"--bits 4 --wbits 4", "give bits by --bits or by --wbits and --abits"},
      {"--bits lrp:s.json --mixed lrp --importance s.json", "give a rule by --bits or by --mixed"},
      {"--bits lrp:s.json --importance s.json", "--importance is for"},
      {"--bits target:avx2 --importance s.json", "--importance is for"},
      {"--bits budget:9000 --size 9000", "--size BYTES is for --mixed budget, or alone"},
      {"--bits size:9000 --size 9000", "--size BYTES is for --mixed budget, or alone"},
      {"--mixed lrp --importance s.json --size 9000", "--size BYTES is for --mixed budget, or"},
      {"--mixed budget", "--mixed budget needs --size BYTES"},
      {"--size 0", "--size must be a number of bytes above 0"},
      {"--bits size:1MB", "expected a number of bytes, got '1MB'"},
      {"--bits size:9000,weights", "--bits: unexpected 'weights'"},
      {"--size 9000 --importance s.json", "need --importance SCORES.json, and "},
      {"--bits size:9000,by=relevance", "by=relevance and by=relevance-error need --importance"},
      {"--bits size:9000,by=magic",
       "by='magic': expected one of prediction, relevance, relevance-error, equal, random"},
      {"--bits budget:9000,by=equal", "--bits: unexpected 'by=equal'"},
      {"--mixed lrp", "--mixed lrp needs --importance"},
      {"--mixed lrp --importance s.json --mp-case odd", "--mp-case must be by-unit or by-block"},
      {"--rounding nearest", "--rounding is no longer an option: --without rounding"},
      {"--codes=uniform", "--codes is no longer an option: --without levels"},
      {"--outliers keep", "--without split"},
      {"--rotation none", "--without rotation"},
      {"--clip-k 2", "--recipe crl:K"},
      {"--objective tensor", "--without residual"},
      {"--target avx2", "--bits target:NAME"},
      {"--time 3", "--bits target:NAME,time=MS"},
      {"--bits-file bits.json", "--bits FILE.json"},
      {"--mixed-operands w", "--bits lrp:SCORES.json,weights"}};
  const TempFolder folder;
  for (const auto& [options, message] : table) {
    CAPTURE(std::string(options));
    const Outcome done = execute(quantize_command("vit", options, folder));
    CAPTURE(done.err);
    CHECK(done.status == 2);
    CHECK(done.out.empty());
    CHECK(done.err.find(message) != done.err.npos);
    CHECK(done.err.ends_with("Try 'vitquant --help'.\n"));
  }
}

// The names of the options in a --help, of those that begin a line.
std::vector<std::string> options_in(const std::string& help) {
  std::vector<std::string> names;
  std::istringstream lines(help.substr(0, help.find("Examples:")));
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find("--");
    if (at == line.npos || at > 6) continue;
    names.push_back(line.substr(at, line.find_first_of(" \t", at) - at));
  }
  return names;
}

TEST_CASE("vitquant: every option of --help is accepted, the paper's names in the second group") {
  const std::string help = output_of({"vitquant", "--help"});
  const size_t second = help.find("The same by the paper's names");
  REQUIRE(second != help.npos);
  const std::vector<std::string> everyday = options_in(help.substr(0, second)),
                                 paper = options_in(help.substr(second));
  CHECK(everyday == std::vector<std::string>{
                        "--weights", "--calib",   "--calib-raw", "--calib-count", "--seed",
                        "--recipe",  "--bits",    "--without",   "--with",        "--tune",
                        "--labels",  "--threads", "--classes",   "--template",    "--exif",
                        "--arch",    "--config",  "--heads",     "--pool",        "--image-size",
                        "--report",  "--output",  "--help",      "--version"});
  CHECK(paper == std::vector<std::string>{"--method", "--wbits", "--abits", "--mixed", "--mp-case",
                                          "--size", "--importance"});
  const TempFolder folder;
  std::string labels;
  for (int i = 0; i < 10; i++) labels += "class\n";
  folder.file("labels.txt", labels);
  for (int i = 0; i < 3; i++) folder.file(std::to_string(i) + ".bmp", bmp(20, 18, i + 1));
  folder.file("list.txt", "0.bmp 0\n1.bmp 1\n2.bmp 2\n");
  output_of({"vitlrp", "-w", model("swin"), "--raw", input_of("swin"), "-o", folder / "s.json"});
  const auto accept = [&](const Command& more) {
    Command command = {"vitquant", "-o", folder / "m.qbin", "--weights", model("swin")};
    command.insert(command.end(), more.begin(), more.end());
    output_of(command);
  };
  accept({"--calib",       folder / "list.txt",
          "--calib-count", "2",
          "--seed",        "3",
          "--tune",        "3",
          "--recipe",      "crl:2",
          "--bits",        "4/8",
          "--without",     "residual",
          "--with",        "rounding",
          "--labels",      folder / "labels.txt",
          "--arch",        "",
          "--threads",     "1",
          "--report",      folder / "m.html"});
  accept({"--calib-raw", input_of("swin"), "--method", "auto", "--wbits", "4", "--abits", "4",
          "--mixed", "lrp", "--mp-case", "by-unit", "--importance", folder / "s.json"});
  accept({"--calib-raw", input_of("swin"), "--mixed", "budget", "--size", "37000"});
}

}  // namespace
}  // namespace vitrun
