# ruff: noqa: E501, RUF001
"""Words by which people mark answers as good or bad, and by which they name such a column.

One row a language. Spellings are compared without case, blanks, hyphens, underscores, dots and
marks of exclamation, so `Thumbs-Up!` is `thumbsup`.
"""

GOOD = """
up thumbsup thumbup upvote upvoted plus positive pos good great excellent ok okay fine yes y true t
correct right accept accepted approve approved like liked love loved helpful useful pass passed
valid satisfied happy resolved keep kept chosen preferred win winner best better desirable desired
favorable favourable promoter recommended verified agree agreed gold perfect

gut sehrgut prima ja richtig korrekt wahr positiv hilfreich angenommen akzeptiert genehmigt daumenhoch
gefällt brauchbar zufrieden besser
bon bonne bien tresbien oui vrai exact exacte accepté acceptée positif positive utile approuvé
pouceenhaut satisfait
bueno buena bien muybueno sí si correcto correcta verdadero aceptado aceptada positivo útil aprobado
pulgararriba megusta satisfecho
buono buona bene sì corretto corretta vero accettato positivo utile approvato pollicesu soddisfatto
bom boa sim correto correta verdadeiro aceito aceite positivo aprovado gostei satisfeito joinha
goed ja juist waar geaccepteerd positief nuttig goedgekeurd duimomhoog tevreden
dobry dobra dobrze tak poprawny poprawna poprawnie prawda pozytywny pozytywna przydatny zaakceptowano
dobrý dobrá dobře ano správně správný pravda pozitivní užitečné přijato
хорошо хороший хорошая хорошее отлично да верно правильно правда принято положительно положительный
нравится полезно одобрено лайк
добре добрий так вірно правильно прийнято позитивний подобається
bra god godt ja rätt riktig rigtig korrekt sant sandt godkänd godkendt godkjent positiv nyttig
hyvä kyllä oikein totta hyväksytty positiivinen hyödyllinen
iyi güzel evet doğru kabul kabuledildi olumlu faydalı beğendim beğenildi onaylandı
jó igen helyes igaz elfogadva pozitív hasznos
bun bună da corect adevărat acceptat pozitiv util
καλό καλή καλός ναι σωστό αληθές αποδεκτό θετικό χρήσιμο
好 很好 优 优秀 是 对 正确 赞 点赞 好评 通过 接受 采纳 喜欢 有用 有帮助 满意 合格 正面 積極 正確 讚 好評 通過 喜歡 滿意
良い 良 よい いい はい 正解 正しい 承認 採用 高評価 役に立つ 満足 合格 肯定 好き
좋음 좋다 좋아요 예 네 맞음 정답 승인 수락 추천 긍정 만족 합격 유용
جيد جيدة ممتاز نعم صحيح صحيحة مقبول موافق إيجابي مفيد أعجبني
अच्छा अच्छी हाँ हां सही स्वीकृत सकारात्मक उपयोगी
tốt đúng có chấpnhận tíchcực hữuích thích
baik bagus ya benar diterima positif berguna suka
ดี ใช่ ถูก ถูกต้อง ยอมรับ บวก ชอบ
טוב כן נכון התקבל חיובי אהבתי
👍 ✅ ✔ ✔️ ☑ ☑️ ❤ ❤️ 😀 😃 😄 🙂 😊 💯 + ✓ ↑ ⬆ ⬆️ ⭐⭐⭐⭐⭐ ★★★★★ ⭐⭐⭐⭐ ★★★★ ★★★★☆
"""

BAD = """
down thumbsdown thumbdown downvote downvoted minus negative neg bad poor terrible awful no n false f
incorrect wrong reject rejected decline declined disapprove disapproved dislike disliked hate hated
unhelpful useless fail failed invalid unsatisfied dissatisfied unhappy unresolved drop dropped discard
discarded loser lose worst worse undesirable undesired unfavorable unfavourable detractor disagree
disagreed notok nothelpful notuseful notgood notaccepted notapproved notcorrect spam toxic harmful
hallucination hallucinated

schlecht sehrschlecht nein falsch inkorrekt unwahr negativ abgelehnt unbrauchbar daumenrunter
nichthilfreich gefälltnicht unzufrieden schlechter nutzlos
mauvais mauvaise mal non faux fausse inexact refusé refusée rejeté rejetée négatif négative inutile
poucevers pouceenbas insatisfait
malo mala mal no incorrecto incorrecta falso falsa rechazado rechazada negativo negativa inútil
pulgarabajo nomegusta insatisfecho
cattivo cattiva male no sbagliato sbagliata falso rifiutato rifiutata negativo inutile polliceverso
polliceingiù insoddisfatto scorretto
mau má ruim não nao incorreto incorreta errado errada falso recusado rejeitado negativo inútil
nãogostei reprovado insatisfeito
slecht nee fout onjuist onwaar afgewezen geweigerd negatief nutteloos duimomlaag ontevreden
zły zła źle nie niepoprawny niepoprawna niepoprawnie fałsz negatywny negatywna odrzucono odrzucony
špatný špatná špatně ne nesprávně nesprávný nepravda negativní odmítnuto
плохо плохой плохая плохое ужасно нет неверно неправильно ложь отклонено отрицательно отрицательный
ненравится бесполезно дизлайк
погано поганий ні невірно неправильно відхилено негативний неподобається
dålig dårlig dårligt nej nei fel feil forkert falskt falsk underkänd afvist avvist negativ oduglig
huono ei väärin väärä epätosi hylätty negatiivinen hyödytön
kötü hayır yanlış ret reddedildi olumsuz faydasız beğenmedim beğenilmedi
rossz nem helytelen hamis elutasítva negatív haszontalan
rău rea nu greșit incorect fals respins negativ inutil
κακό κακή κακός όχι λάθος ψευδές απορρίφθηκε αρνητικό άχρηστο
坏 差 很差 不好 否 不 不是 不对 错 错误 踩 差评 不通过 拒绝 不采纳 不喜欢 没用 无用 无帮助 不满意 不合格 负面 錯 錯誤 差評 不通過 拒絕
不喜歡 不滿意
悪い 悪 わるい いいえ 不正解 誤り 間違い 却下 不採用 低評価 役に立たない 不満 不合格 否定 嫌い
나쁨 나쁘다 싫어요 아니요 아니오 틀림 오답 거부 거절 비추천 부정 불만족 불합격 쓸모없음
سيئ سيئة رديء لا خطأ خاطئ مرفوض سلبي غيرمفيد لميعجبني
बुरा बुरी खराब नहीं गलत अस्वीकृत नकारात्मक बेकार
xấu tệ sai không từchối tiêucực vôích khôngthích
buruk jelek tidak salah ditolak negatif taksuka tidaksuka
แย่ ไม่ดี ไม่ใช่ ผิด ปฏิเสธ ลบ ไม่ชอบ
רע גרוע לא שגוי נדחה שלילי לאאהבתי
👎 ❌ ✖ ✖️ ✗ ✘ 🚫 ⛔ 💔 😞 😡 😠 🙁 ☹ ☹️ - ↓ ⬇ ⬇️ ⭐ ★ ★☆☆☆☆ ★★☆☆☆ ⭐⭐ ★★
"""

NEUTRAL = """
neutral mixed unclear unsure unknown maybe partial partially partly average medium so-so skip skipped
none na neither both tie abstain undecided egal unklar teils neutre moyen neutro neutrale neutraal
neutralny нейтрально 中性 一般 普通 보통 ⭐⭐⭐ ★★★ ★★★☆☆ 😐
"""

AMBIGUOUS = """
y n t f yes no true false ja nein nej nei oui non sí si no sì sim não nao nee tak nie ano ne да нет так ні
kyllä ei evet hayır igen nem da nu ναι όχι 是 否 不 对 はい いいえ 예 네 아니요 아니오 نعم لا हाँ हां नहीं có không ya
tidak ใช่ ไม่ใช่ כן לא + - ok okay none na both bien mal
"""
"""Of these, what answers any question about a row and not only whether it is good."""

NAMES = """
rating ratings rated rate thumb thumbs feedback vote votes voted upvote upvotes downvote downvotes score
scores scored label labels verdict verdicts quality approved approval accepted acceptance accept reject
rejected good bad helpful helpfulness correct correctness incorrect like liked likes dislike disliked
star stars grade grades graded reward rewards judgement judgment judged satisfaction satisfied csat nps
review reviewed reviewer outcome desirable desirability annotation annotator annotations rank preference
preferred useful usefulness valid valide valido válido validity pass passed fail failed flag flagged toxic toxicity safe
harmful kto mark marks marked evaluation eval assessment reaction reactions emoji resolved weight
truthful faithful hallucination

bewertung bewertet note noten daumen urteil stimme qualität rückmeldung gefällt sterne punkte punktzahl
geprüft freigegeben annotiert
évaluation évalué avis vote étoiles qualité jugement pouce réaction appréciation
calificación calificacion valoración valoracion puntuación puntuacion voto votos estrellas calidad
opinión reseña juicio
valutazione voto voti giudizio stelle punteggio recensione qualità
avaliação avaliacao nota estrelas pontuação qualidade julgamento curtida
beoordeling waardering cijfer sterren oordeel kwaliteit duim
ocena oceny gwiazdki jakość hodnocení hvězdičky
оценка оценки рейтинг голос отзыв качество вердикт балл звезды
оцінка рейтинг відгук якість
betyg omdöme stjärnor bedømmelse vurdering anmeldelse arvio arvosana tähdet
değerlendirme puan oy yıldız geribildirim kalite értékelés csillag evaluare notă
βαθμολογία αξιολόγηση ψήφος
评分 评价 评级 反馈 打分 分数 质量 标注 投票 星级 點讚 評分 評價 反饋
評価 評点 採点 スコア 判定 フィードバック 品質 投票 レビュー
평가 평점 점수 피드백 판정 품질 투표 별점 리뷰
تقييم تقدير تصويت ملاحظات جودة نجوم
रेटिंग मूल्यांकन प्रतिक्रिया अंक गुणवत्ता
đánhgiá điểm phảnhồi chấtlượng penilaian nilai ulasan คะแนน รีวิว דירוג ציון משוב
"""

REVERSED = """
reject rejected bad dislike disliked dislikes downvote downvotes incorrect incorrectness fail failed flag flagged
toxic toxicity harmful harm hallucination hallucinated unsafe spam error errors wrong abgelehnt falsch
rejeté rechazado rifiutato rejeitado afgewezen odrzucono отклонено 拒绝 却下 거부
"""
"""Of these names and some more, what says how bad something is: yes, 1 and high numbers mean bad."""

BENIGN = """
id ids idx index uuid guid hash key row line number num count turn turns round version year month day
date time timestamp created updated source sources dataset subset split fold language lang locale
country region city model models engine temperature license licence author user username customer
account tenant team channel product domain topic subject category categories type kind task tasks level
difficulty grade_level age url link path file filename page section chapter title name tag tags format
length tokens chars words seed part parent thread session conversation ticket order step steps stage
config bos eos stream streaming
"""
"""Names that say where a row comes from or what it is about, not how good it is."""
