// Four inner indices of a [4 rows] and b0, b1 [4 columns each] for the sums of thin.wgsl. Part of `main`.
#for u in 0..4
#for i in 0..4
        sum_$(i)_0 = fma(vec4<f32>(a[$(u)][$(i)]), b0[$(u)], sum_$(i)_0);
        sum_$(i)_1 = fma(vec4<f32>(a[$(u)][$(i)]), b1[$(u)], sum_$(i)_1);
#endfor
#endfor
