#!/bin/sh
# Runs the three workloads of the m1 set and writes their metrics, a summary and a report in Markdown.
# Further arguments go to `pie-bench sage run`, for example: ./run_benchmark.sh --model MODEL.gguf
set -eu
output="${OUTPUT:-./benchmark_results}"
bench="${PIE_BENCH:-pie-bench}"
command -v "$bench" > /dev/null || {
    echo "found no \`$bench\`: build it with \`cargo build --release -p bench\` and add target/release to PATH" >&2
    exit 1
}
"$bench" sage run --workload m1 --backend "${BACKEND:-cpu}" --output "$output" "$@"
"$bench" sage report --input "$output/benchmark_summary.json" --format markdown > "$output/REPORT.md"
echo "Report: $output/REPORT.md"
