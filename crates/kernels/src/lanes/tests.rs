use super::*;

/// A function of lanes for every value, of vectors of 8 or of the widest.
struct Map<'a, F>(&'a mut [f32], F);

macro_rules! function {
    ($name:ident, $function:ident) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl Kernel for Map<'_, $name> {
            type Output = ();
            #[inline(always)]
            fn run<L: Lanes>(self) {
                map::<L>(self.0, |x| $function(x));
            }
        }
    };
}

function!(Exp, exp);
function!(Exp2, exp2_to_one);

/// The largest relative error for steps of a thousandth.
fn worst(range: std::ops::Range<i32>, find: impl Fn(&mut [f32]), exact: impl Fn(f64) -> f64) -> f64 {
    let from: Vec<f32> = range.map(|i| i as f32 / 1000.0).collect();
    let mut found = from.clone();
    find(&mut found);
    let error = |(x, found): (f32, f32)| (f64::from(found) / exact(f64::from(x)) - 1.0).abs();
    from.into_iter().zip(found).map(error).fold(0.0, f64::max)
}

#[test]
fn exp_is_within_its_documented_error() {
    for isa in Isa::available() {
        let worst = worst(-87_300..88_700, |values| run(isa, Map(values, Exp)), f64::exp);
        assert!(worst < 2e-7, "{isa}: {worst}");
        let mut ends = [f32::NEG_INFINITY, -88.0, 0.0, 200.0];
        run(isa, Map(&mut ends, Exp));
        assert_eq!(ends[..3], [0.0, 0.0, 1.0]);
        assert!(ends[3].is_finite() && ends[3] > 3e38);
    }
}

#[test]
fn exp2_to_one_is_within_its_documented_error_and_at_most_one() {
    for isa in Isa::available() {
        let worst = worst(-125_000..1, |values| run_wide(isa, Map(values, Exp2)), f64::exp2);
        assert!(worst < 2e-7, "{isa}: {worst}");
        let mut near = [0.0, -1e-9, -1e-7, -3e-7, -1e-6, -0.0];
        run_wide(isa, Map(&mut near, Exp2));
        assert!(near[0] == 1.0 && near.iter().all(|&x| x <= 1.0 && x > 0.999_99), "{near:?}");
        let mut ends = [f32::NEG_INFINITY, -126.0, f32::NAN, -1e30];
        run_wide(isa, Map(&mut ends, Exp2));
        assert_eq!(ends, [2f32.powi(-125); 4]);
    }
}

#[test]
fn what_is_not_a_number_is_found_in_any_lane() {
    struct All<'a>(&'a [f32]);
    impl Kernel for All<'_> {
        type Output = bool;
        #[inline(always)]
        fn run<L: Lanes>(self) -> bool {
            all_from_zero(L::load(self.0))
        }
    }
    for isa in Isa::available() {
        assert!(run(isa, All(&[0.0; 16])) && run_wide(isa, All(&[0.0; 16])));
        for lane in 0..8 {
            let mut lanes = [0.0; 16];
            lanes[lane] = f32::NAN;
            assert!(!run(isa, All(&lanes)) && !run_wide(isa, All(&lanes)), "{isa} {lane}");
        }
    }
}
