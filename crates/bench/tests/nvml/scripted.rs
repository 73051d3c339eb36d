//! NVIDIA's library with known answers, for the test of `src/telemetry/gpu.rs`, which compiles it: two cards, of which the
//! second is in parts (MIG) and tells less. Names, types, layouts and numbers are those of `nvml.h` of NVIDIA's package
//! nvidia-nvml-dev 13.5 (compared by a C compiler).

use std::ffi::{c_char, c_uint, c_ulonglong, c_void};

type Status = c_uint;
const SUCCESS: Status = 0;
const INVALID_ARGUMENT: Status = 2;
const NOT_SUPPORTED: Status = 3;

#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Status {
    SUCCESS
}

/// # Safety
/// The pointer is that of a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Status {
    unsafe { *count = 2 };
    SUCCESS
}

/// # Safety
/// The pointer is that of a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut usize) -> Status {
    if index >= 2 {
        return INVALID_ARGUMENT;
    }
    unsafe { *device = index as usize + 1 };
    SUCCESS
}

/// # Safety
/// The pointer is that of the second layout of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: usize, memory: *mut Memory) -> Status {
    let memory = unsafe { &mut *memory };
    let mb = |count: u64| count << 20;
    (memory.total, memory.used) = if device == 1 { (mb(81559), mb(512)) } else { (mb(10), mb(5)) };
    (memory.reserved, memory.free) = (0, memory.total - memory.used);
    SUCCESS
}

/// # Safety
/// The pointer is that of two numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: usize, busy: *mut Utilization) -> Status {
    if device != 1 {
        return NOT_SUPPORTED;
    }
    unsafe { *busy = Utilization { gpu: 37, memory: 12 } };
    SUCCESS
}

/// # Safety
/// The pointer is that of a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: usize, milliwatts: *mut c_uint) -> Status {
    if device != 1 {
        return NOT_SUPPORTED;
    }
    unsafe { *milliwatts = 103_220 };
    SUCCESS
}

/// # Safety
/// There is room for so many characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(_device: *const c_void, name: *mut c_char, length: c_uint) -> Status {
    unsafe { write(c"Scripted GPU".to_bytes_with_nul(), name, length) }
}

/// # Safety
/// There is room for so many characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Status {
    unsafe { write(c"570.1".to_bytes_with_nul(), version, length) }
}

unsafe fn write(text: &[u8], to: *mut c_char, length: c_uint) -> Status {
    if text.len() > length as usize {
        return INVALID_ARGUMENT;
    }
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len()) };
    SUCCESS
}
