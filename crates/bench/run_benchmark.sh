#!/bin/sh
# Runs sageLLM's benchmark with one command.
#
#   ./run_benchmark.sh [OUTPUT_DIR] [OPTIONS]                       the three workloads of m1, their report
#   ./run_benchmark.sh --profile convergence --target LABEL=URL --target LABEL=URL [OPTIONS]
#
# --profile NAME     quick (the default) or convergence
# --output-dir DIR   folder of the files; benchmark_results by default
# --workload NAME    of quick: m1 by default
# --backend NAME     of quick: cpu by default
#
# All other options go to `pie-bench sage run`, for convergence to `pie-bench sage convergence`, for example
# ./run_benchmark.sh --model MODEL.gguf. PIE_BENCH names the program.
set -eu

bench="${PIE_BENCH:-pie-bench}"
profile=quick
output="${OUTPUT:-}"
workload=m1
backend="${BACKEND:-cpu}"

value() {
    if [ "$1" -lt 2 ]; then
        echo "$2: expected a value" >&2
        exit 2
    fi
}

# What is left is collected behind what is there, so that after so many turns only the other options are left.
count=$#
while [ "$count" -gt 0 ]; do
    option="$1"
    case "$option" in
        --profile | --output-dir | --workload | --backend)
            value "$count" "$option"
            case "$option" in
                --profile) profile="$2" ;;
                --output-dir) output="$2" ;;
                --workload) workload="$2" ;;
                --backend) backend="$2" ;;
            esac
            shift 2
            count=$((count - 2))
            ;;
        --publish* | --upload-hf*)
            echo "$option: nothing is sent from here; \`pie-bench sage aggregate\` makes the files of a dataset" >&2
            exit 2
            ;;
        -h | --help)
            sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            shift
            count=$((count - 1))
            # The first word that is no option, and no option's value, is the folder.
            if [ -z "$output" ] && [ "${previous:-}" = "" ] && [ "${option#-}" = "$option" ]; then
                output="$option"
            else
                set -- "$@" "$option"
            fi
            ;;
    esac
    previous="$option"
done
output="${output:-./benchmark_results}"

command -v "$bench" > /dev/null || {
    echo "found no \`$bench\`: build it with \`cargo build --release -p bench\` and add target/release to PATH" >&2
    exit 1
}

case "$profile" in
    quick)
        "$bench" sage run --workload "$workload" --backend "$backend" --output "$output" "$@"
        "$bench" sage report --input "$output/benchmark_summary.json" --format markdown > "$output/REPORT.md"
        echo "Report: $output/REPORT.md"
        ;;
    convergence)
        "$bench" sage convergence --output-dir "$output" "$@"
        ;;
    *)
        echo "--profile: found \`$profile\`, expected quick or convergence" >&2
        exit 2
        ;;
esac
