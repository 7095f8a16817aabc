# The line controller calls this for one board while the board waits:  powershell -File hook.ps1 EXPORT
#
# Exit status: 0 the board goes on, 1 to rework, 2 to a person, anything else stops it. Adapt the four actions.
# The answer, one JSON object, goes to standard output and to the log.
param(
    [Parameter(Mandatory = $true, Position = 0)] [string] $Export,
    [string] $InspectPop = "inspect-pop",
    [string] $Store = "$env:ProgramData\inspect-pop\records.db",
    [string] $Log = "$env:ProgramData\inspect-pop\hook.log",
    [double] $DeadlineS = 20                    # the line's timeout must be longer
)
$ErrorActionPreference = "Stop"
[Console]::OutputEncoding = [System.Text.Encoding]::UTF8

$status = 3
$answer = ""
try {
    $deadline = $DeadlineS.ToString([System.Globalization.CultureInfo]::InvariantCulture)
    $answer = & $InspectPop hook $Export --store $Store --deadline $deadline
    $status = $LASTEXITCODE
}
catch {
    $answer = '{"serial": null, "verdict": "error", "reason": "the hook could not be called"}'
}
Write-Output $answer
try { Add-Content -Path $Log -Encoding UTF8 -Value "$((Get-Date).ToUniversalTime().ToString('o')) $status $answer" } catch { }

switch ($status) {
    0 { exit 0 }                                # pass: the board goes on
    1 { exit 1 }                                # fail: to rework; the answer names the joints
    2 { exit 2 }                                # review: a person inspects it
    default { exit 3 }                          # could not inspect, killed, not installed: stop and call a person
}
