//! What a loaded model holds, and what loading takes beside that: on the heap, counted by the allocator, and of weights, which
//! are not there, what the system says is resident.

#![allow(unsafe_code, reason = "an allocator that counts")]

use backend_cpu::{CpuBackend, CpuOptions, KvType, Quantize};
use kernels::DType;
use model::gguf::writer::GgufWriter;
use model::gguf::{Gguf, Value};
use model::{Hyperparameters, Weights};
use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(target_os = "linux")]
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One model at a time is counted.
static ALONE: Mutex<()> = Mutex::new(());

const VOCABULARY: usize = 65536;
const HIDDEN: usize = 256;
const LAYERS: usize = 4;

/// What threads, pages and tables take, and more than that; a layer takes more in each format.
const SLACK: usize = 256 << 10;

/// Mappings of weights begin and end within one, and those ends are no part of what is asked for.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// Fewer pages than those for which huge pages are asked.
const PAGES: u32 = 48;

fn model(is_tied: bool) -> Gguf {
    Gguf::parse(file(is_tied)).unwrap()
}

/// A llama in F16 whose largest matrix, that of the tokens, has 16 Mi weights.
fn file(is_tied: bool) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.metadata_str("general.architecture", "llama");
    for (key, value) in [
        ("block_count", LAYERS),
        ("embedding_length", HIDDEN),
        ("attention.head_count", 4),
        ("feed_forward_length", 512),
        ("context_length", 128),
    ] {
        writer.metadata_u32(&format!("llama.{key}"), value as u32);
    }
    writer.metadata("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    let zeros = |shape: &[usize]| vec![0; 2 * shape.iter().product::<usize>()];
    let embedding = [VOCABULARY, HIDDEN];
    writer.tensor("token_embd.weight", DType::F16, &embedding, vec![0x11; 2 * VOCABULARY * HIDDEN]);
    if !is_tied {
        writer.tensor("output.weight", DType::F16, &embedding, zeros(&embedding));
    }
    let hyper = Hyperparameters::from_gguf_metadata(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap();
    let there = ["token_embd.weight", "output.weight"];
    for (name, shape) in hyper.tensors().iter().filter(|(name, _)| !there.contains(&name.as_str())) {
        writer.tensor(name, DType::F16, shape, zeros(shape));
    }
    writer.to_bytes()
}

/// What a loaded model takes.
struct Taken {
    weights: usize,
    /// On the heap.
    heap: usize,
    /// Beside that, while it was loaded.
    more: usize,
    /// Where the kernel knows huge pages, and so says what they were asked for.
    #[cfg(target_os = "linux")]
    resident_weights: Option<usize>,
}

/// What is resident of so many bytes of weights.
#[cfg(target_os = "linux")]
fn of_weights(bytes: usize) -> RangeInclusive<usize> {
    bytes - 2 * HUGE_PAGE..=bytes
}

/// Resident bytes of this process in mappings that huge pages were asked for: those of weights, as no pool here is large. A
/// thread asks once a model is loaded, and lets go of one that is dropped, so this waits for so many, and not for ever.
#[cfg(target_os = "linux")]
fn resident_weights(wanted: RangeInclusive<usize>) -> Option<usize> {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return None;
    }
    let start = Instant::now();
    loop {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut rss, mut sum) = (0, 0);
        for line in maps.lines() {
            if let Some(kib) = line.strip_prefix("Rss:") {
                rss = kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
            } else if line
                .strip_prefix("VmFlags:")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hg"))
            {
                sum += rss;
            }
        }
        if wanted.contains(&sum) || start.elapsed() > Duration::from_secs(10) {
            return Some(sum);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn load(is_tied: bool, quantize: Option<Quantize>) -> Taken {
    let gguf = model(is_tied);
    let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
    let options = CpuOptions { threads: 2, pages: 1, quantize, ..CpuOptions::default() };
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let backend = CpuBackend::open(&hyper, &weights, &options, |_| ()).unwrap();
    let (live, peak) = (LIVE.load(Relaxed), PEAK.load(Relaxed));
    let (layers, output) = backend.weight_bytes();
    Taken {
        weights: layers + output,
        heap: live - before,
        more: peak - live,
        #[cfg(target_os = "linux")]
        resident_weights: resident_weights(of_weights(layers + output)),
    }
}

#[test]
fn a_matrix_that_is_embedding_and_output_is_held_once() {
    let _alone = ALONE.lock().unwrap();
    for quantize in [None, Some(Quantize::Q8_0)] {
        // Of two matrices, only the output is held: the other's rows are read from the file.
        let [tied, apart] = [true, false].map(|is_tied| load(is_tied, quantize));
        assert_eq!(tied.weights, apart.weights);
        for taken in [tied, apart] {
            let Taken { weights, heap, .. } = taken;
            assert!(heap < SLACK, "{heap} bytes beside weights of {weights}");
            #[cfg(target_os = "linux")]
            if let Some(resident) = taken.resident_weights {
                assert!(of_weights(weights).contains(&resident), "{resident} for weights of {weights}");
            }
        }
    }
}

#[test]
fn the_pool_takes_the_bytes_of_its_pages_in_either_format() {
    let _alone = ALONE.lock().unwrap();
    let gguf = model(true);
    let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
    let [in_i16, in_q8_0] = [KvType::I16, KvType::Q8_0].map(|kv_cache_type| {
        let options = CpuOptions { threads: 2, pages: PAGES, kv_cache_type, ..CpuOptions::default() };
        let before = LIVE.load(Relaxed);
        let backend = CpuBackend::open(&hyper, &weights, &options, |_| ()).unwrap();
        let held = LIVE.load(Relaxed) - before;
        drop(backend);
        let pool = PAGES as usize * CpuBackend::page_bytes(&hyper, kv_cache_type, options.page_tokens);
        assert!((pool..pool + SLACK).contains(&held), "{held} with a pool of {pool}");
        pool
    });
    // A scale is of two bytes, in 16 bits for 128 numbers, in 8 for 32.
    let head = hyper.head_dim;
    let of_head = [2 * head + 2 * head.div_ceil(128), head + 2 * head.div_ceil(32)];
    assert_eq!(in_q8_0 * of_head[0], in_i16 * of_head[1]);
}

#[test]
fn loading_holds_no_second_copy_of_a_model_that_it_quantizes() {
    let _alone = ALONE.lock().unwrap();
    let Taken { weights, more, .. } = load(true, Some(Quantize::Q8_0));
    // A thread holds one matrix in both forms, of the vocabulary or of a layer.
    let [of_tokens, of_layer] = [VOCABULARY, 512].map(|rows| DType::Q8_0.row_bytes(rows * HIDDEN));
    assert!(more < of_tokens + of_layer + SLACK, "{more} bytes beside weights of {weights}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_does_not_stay_in_memory_beside_its_packed_weights() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    // Its embedding is read from the file later on.
    std::fs::write(&path, file(false)).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
    let sum = || {
        weights.get("token_embd.weight").unwrap().bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>()
    };
    let resident = || model::test_model::resident(&path).unwrap().expect("the file is mapped");
    let before = sum();
    assert!(resident() > VOCABULARY * HIDDEN, "what was read is there");
    let options = CpuOptions { threads: 2, pages: 1, ..CpuOptions::default() };
    let _backend = CpuBackend::open(&hyper, &weights, &options, |_| ()).unwrap();
    assert!(resident() < SLACK, "{} bytes of the file stayed", resident());
    assert_eq!(sum(), before, "and is read again");
}
