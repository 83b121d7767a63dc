# awk -f hot.awk MAP ADDRESSES: patterns of the sections of a linker's map (lld's) that hold one of the addresses.

function number(hex,    value, at) {
    hex = tolower(hex)
    for (at = 1; at <= length(hex); at++) value = value * 16 + index("0123456789abcdef", substr(hex, at, 1)) - 1
    return value + 0
}

# A line of the map: address, address it is loaded at, size, alignment, FILE:(SECTION).
FNR == NR {
    if ($5 ~ /:\(\.text/) {
        first[++sections] = number($1)
        size[sections] = number($3)
        name[sections] = $5
    }
    next
}

{
    address = number($1)
    low = 1
    high = sections
    while (low < high) {
        middle = int((low + high + 1) / 2)
        if (first[middle] < address + 16) low = middle
        else high = middle - 1
    }
    if (address < first[low] + size[low]) hot[low] = 1
}

# The pattern of a section. What a compiler numbers anew is left open: a hash at the end, or a crate's within.
function pattern_of(at,    file, section) {
    file = section = name[at]
    sub(/:\(.*/, "", file)
    sub(/.*:\(/, "", section)
    sub(/\)$/, "", section)
    exact[at] = "*(" section ")"
    if (file ~ /\.a\(/) {
        # The C library's are one section an object.
        sub(/.*\//, "", file)
        sub(/\(/, ":", file)
        sub(/\)$/, "", file)
        return exact[at] = "*" file "(" section ")"
    }
    sub(/17h[0-9a-f]+E.*$/, "17h*", section)
    gsub(/Cs[0-9A-Za-z]+_/, "Cs*_", section)
    return section == ".text" ? "" : "*(" section ")"
}

END {
    for (at = 1; at <= sections; at++) {
        pattern[at] = pattern_of(at)
        all[pattern[at]] += size[at]
        if (at in hot) run[pattern[at]] += size[at]
    }
    for (at = 1; at <= sections; at++) {
        if (!(at in hot) || pattern[at] == "") continue
        # Of a function with types for parameters one form may be run and a hundred not: then it is named with its hash.
        shown = all[pattern[at]] > 2 * run[pattern[at]] + 12288 ? exact[at] : pattern[at]
        if (!(shown in seen)) print "    " shown
        seen[shown] = 1
    }
}
